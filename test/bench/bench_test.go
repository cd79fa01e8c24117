// Package bench runs `taskcluster bench` as an operator would. It asserts what
// does not depend on the machine: that every part was measured, and how many
// statements an operation and an idle worker cost. Rates and times are for
// people to read.
package bench

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

type throughput struct {
	Operations             int64
	PerSecond              float64
	StatementsPerOperation float64
	Milliseconds           map[string]struct{ P50, P99, Max float64 }
}

type latency struct{ P50, P99, Max float64 }

type transfer struct {
	Times                   int
	MBPerSecond             float64
	ServerMemoryGrowthBytes int64
}

type report struct {
	Runs, Nodes                        int
	CreateTask, CreateTasks100, Status *throughput
	ClaimWork1ReportCompleted          *throughput
	ClaimWork32ReportCompleted         *throughput
	PendingToClaimedMilliseconds       *latency
	ParkedWorkers                      *struct{ Workers, Statements float64 }
	EmptyStartToFirst200Milliseconds   float64
	ListTaskGroup                      *struct {
		Tasks, Pages, Listings, Bytes int
		Milliseconds                  latency
	}
	Artifact *struct {
		Bytes            int64
		Upload, Download transfer
	}
	ServerSentEvents, WebSocket *struct {
		Subscribers, ServerMemoryBytes  int
		CreatedToHeardBy100Milliseconds latency
	}
	ClaimWork1AtDepth *struct {
		PendingTasks             int
		FillTasksPerSecond       float64
		ClaimMillisecondsAtNone  latency
		ClaimMillisecondsAtDepth latency
		RatioOfMedians           float64
	}
}

func run(t *testing.T, args ...string) report {
	t.Helper()
	args = append([]string{"bench", "--self", "--dir", t.TempDir(), "--duration", "1s"}, args...)
	stdout, stderr, status := harness.Run(t, harness.Binary(t), os.Environ(), args...)
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	t.Logf("%s", stdout)
	return r
}

func TestBench(t *testing.T) {
	const size = 8 << 20
	r := run(t, "--clients", "16", "--parked", "300", "--depth", "2000", "--subscribers", "200", "--artifact", strconv.Itoa(size))
	for _, part := range []struct {
		name           string
		got            *throughput
		mostStatements float64 // per task; a group commit of one task is the worst case
		calls          []string
	}{
		{"createTask", r.CreateTask, 8, []string{"createTask"}},
		{"createTasks", r.CreateTasks100, 4, []string{"createTasks"}},
		{"status", r.Status, 1.1, []string{"status"}},
		{"claimWork(1)", r.ClaimWork1ReportCompleted, 16, []string{"claimWork", "reportCompleted"}},
		{"claimWork(32)", r.ClaimWork32ReportCompleted, 12, []string{"claimWork", "reportCompleted"}},
	} {
		if part.got == nil || part.got.Operations == 0 || part.got.PerSecond == 0 {
			t.Errorf("%s was not measured: %+v", part.name, part.got)
			continue
		}
		if n := part.got.StatementsPerOperation; n <= 0 || n > part.mostStatements {
			t.Errorf("%s: %v statements per operation", part.name, n)
		}
		for _, call := range part.calls {
			if l, ok := part.got.Milliseconds[call]; !ok || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max {
				t.Errorf("%s: %s took %+v", part.name, call, l)
			}
		}
	}
	if p := r.ParkedWorkers; p == nil || p.Workers != 300 || p.Statements != 0 {
		t.Errorf("parked workers: %+v", p)
	}
	if w := r.PendingToClaimedMilliseconds; w == nil || w.P50 <= 0 || r.EmptyStartToFirst200Milliseconds <= 0 {
		t.Errorf("pending to claimed: %+v, start: %v ms", w, r.EmptyStartToFirst200Milliseconds)
	}
	if g := r.ListTaskGroup; g == nil || g.Tasks != 10_000 || g.Pages != 10 || g.Listings < 1 || g.Milliseconds.P50 <= 0 {
		t.Errorf("group: %+v", g)
	}
	// What is transferred is not held: the server grows by buffers only. (The
	// artifact is small here; bench says the same of a large one.)
	if a := r.Artifact; a == nil || a.Bytes != size || a.Upload.Times < 1 || a.Download.Times < 1 || a.Upload.MBPerSecond <= 0 || a.Download.MBPerSecond <= 0 {
		t.Errorf("artifact: %+v", a)
	}
	if s := r.ServerSentEvents; s == nil || s.Subscribers != 200 || s.ServerMemoryBytes <= 0 || s.CreatedToHeardBy100Milliseconds.P50 <= 0 {
		t.Errorf("sse: %+v", s)
	}
	if s := r.WebSocket; s == nil || s.Subscribers != 200 || s.ServerMemoryBytes <= 0 || s.CreatedToHeardBy100Milliseconds.P50 <= 0 {
		t.Errorf("websocket: %+v", s)
	}
	if d := r.ClaimWork1AtDepth; d == nil || d.PendingTasks != 2000 || d.FillTasksPerSecond <= 0 || d.RatioOfMedians <= 0 || d.ClaimMillisecondsAtDepth.P50 <= 0 {
		t.Errorf("depth: %+v", d)
	}
}

// Two processes on one database are measured like one.
func TestNodes(t *testing.T) {
	r := run(t, "--only", "create,claim1", "--nodes", "2", "--postgres-url", testenv.Postgres(t).URL)
	if r.Nodes != 2 {
		t.Errorf("the report is of %d nodes", r.Nodes)
	}
	if r.CreateTask == nil || r.CreateTask.Operations == 0 || r.ClaimWork1ReportCompleted == nil || r.ClaimWork1ReportCompleted.Operations == 0 {
		t.Errorf("something was not measured: %+v", r)
	}
}

func TestOnly(t *testing.T) {
	r := run(t, "--only", "status", "--runs", "2")
	if r.Status == nil || r.Status.Operations == 0 {
		t.Errorf("status was not measured: %+v", r.Status)
	}
	if r.Runs != 2 {
		t.Errorf("the report is of %d runs", r.Runs)
	}
	if r.CreateTask != nil || r.ListTaskGroup != nil || r.EmptyStartToFirst200Milliseconds != 0 {
		t.Errorf("more was measured than asked for: %+v", r)
	}
	_, stderr, status := harness.Run(t, harness.Binary(t), os.Environ(), "bench", "--self", "--only", "nothing")
	if status != 2 || !strings.Contains(stderr, `no part "nothing"`) {
		t.Errorf("exit status %d, %s", status, stderr)
	}
}
