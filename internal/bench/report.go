package bench

// Report is the outcome; it prints as JSON. Parts that were not measured are
// absent. Rates are per second, sizes in bytes, MB are 1,000,000 bytes.
type Report struct {
	Started     string      `json:"started"`
	Runs        int         `json:"runs,omitempty"`         // that these are the medians of
	LoadAverage [2]string   `json:"loadAverageBeforeAfter"` // over 1, 5 and 15 minutes
	Clients     int         `json:"clients"`                // parallel connections
	Nodes       int         `json:"nodes,omitempty"`        // that share a database, when there are several
	StartMillis float64     `json:"emptyStartToFirst200Milliseconds,omitempty"`
	CreateTask  *Throughput `json:"createTask,omitempty"`
	CreateTasks *Throughput `json:"createTasks100,omitempty"` // operations are tasks
	ClaimOne    *Throughput `json:"claimWork1ReportCompleted,omitempty"`
	ClaimMany   *Throughput `json:"claimWork32ReportCompleted,omitempty"` // operations are tasks
	Status      *Throughput `json:"status,omitempty"`
	Wake        *Latency    `json:"pendingToClaimedMilliseconds,omitempty"`
	Idle        *Idle       `json:"parkedWorkers,omitempty"`
	Group       *Group      `json:"listTaskGroup,omitempty"`
	Artifact    *Artifact   `json:"artifact,omitempty"`
	Depth       *Depth      `json:"claimWork1AtDepth,omitempty"`

	SSE       *Subscribers `json:"serverSentEvents,omitempty"`
	WebSocket *Subscribers `json:"webSocket,omitempty"`
}

// Subscribers is what those who follow events in one way cost.
type Subscribers struct {
	Subscribers int   `json:"subscribers"`             // parked, each with a binding of his own
	Memory      int64 `json:"serverMemoryBytes"`       // resident, with all of them parked
	Growth      int64 `json:"serverMemoryGrowthBytes"` // since before they came
	// Heard is the time from before a task is created until the last of 100
	// listeners, beside those who are parked, was told.
	Heard Latency `json:"createdToHeardBy100Milliseconds"`
}

// Latency is how long calls took, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Throughput is what many parallel callers get done.
type Throughput struct {
	Operations int64   `json:"operations"`
	Seconds    float64 `json:"seconds"`
	PerSecond  float64 `json:"perSecond"`
	// ServerCPU is the server's processor time per operation, in microseconds;
	// unlike the rate it does not suffer from what else the machine does.
	ServerCPU  float64            `json:"serverCpuMicrosPerOperation"`
	Statements float64            `json:"statementsPerOperation"`
	Millis     map[string]Latency `json:"milliseconds"` // by call
}

// Idle is what parked workers cost.
type Idle struct {
	Workers    int     `json:"workers"`
	Seconds    float64 `json:"seconds"`
	Statements float64 `json:"statements"`
	CPUPercent float64 `json:"cpuPercentOfOneCore"`
}

// Group is how long it takes one caller to list a large task group, page after
// page.
type Group struct {
	Tasks    int     `json:"tasks"`
	Pages    int     `json:"pages"` // of one listing
	Listings int     `json:"listings"`
	Bytes    int64   `json:"bytes"` // of one listing
	Millis   Latency `json:"milliseconds"`
}

// Artifact is how fast one caller uploads and downloads an artifact through the
// deployment's own store.
type Artifact struct {
	Bytes    int64    `json:"bytes"`
	Upload   Transfer `json:"upload"`
	Download Transfer `json:"download"`
}

// Transfer is one direction.
type Transfer struct {
	Times       int     `json:"times"`
	MBPerSecond float64 `json:"mbPerSecond"`
	// ServerCPU is the server's processor time, in seconds per 1,000 MB.
	ServerCPU float64 `json:"serverCpuSecondsPerGB"`
	// Growth is by how much the server's resident memory was larger at its
	// peak, seen every 20 ms, than before the first time.
	Growth int64 `json:"serverMemoryGrowthBytes"`
}

// Depth compares claims from an empty task queue with claims from one in which
// many tasks wait: each time one task is created and one is claimed, by one
// caller.
type Depth struct {
	Pending       int     `json:"pendingTasks"`
	FillPerSecond float64 `json:"fillTasksPerSecond"` // by createTasks
	None          Latency `json:"claimMillisecondsAtNone"`
	Deep          Latency `json:"claimMillisecondsAtDepth"`
	// Beside is a claim from an empty task queue while the other one is long:
	// what differs from None is the database's size, not the queue's length.
	Beside Latency `json:"claimMillisecondsBesideDepth"`
	Ratio  float64 `json:"ratioOfMedians"` // of Deep to None
	// Growth is by how much the server's resident memory has grown while the
	// tasks were created; caches of the database, which are bounded, included.
	Growth int64 `json:"serverMemoryGrowthBytes"`
}
