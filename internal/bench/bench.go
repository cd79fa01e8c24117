// Package bench measures a deployment: how many tasks it creates, hands out and
// resolves per second, how long that takes, what it costs the server, and how
// quickly a waiting worker is woken. Everything goes over HTTP with signed
// requests, as clients and workers do it, and counts only what the server has
// acknowledged.
package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"taskcluster/internal/hawk"
)

// Options say what to measure, and how long.
type Options struct {
	RootURL     string
	Credentials hawk.Credentials
	Clients     int           // parallel connections; 32 when zero
	Duration    time.Duration // of each part; 5 s when zero
	Parked      int           // parked workers of the idle part; 1,000 when zero
	Progress    func(string)  // told what is measured now; may be nil
}

// Latency is how long calls took, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// Throughput is one part of a report.
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

// Report is the outcome; it prints as JSON.
type Report struct {
	Started     string     `json:"started"`
	LoadAverage [2]string  `json:"loadAverageBeforeAfter"`
	Clients     int        `json:"clients"`
	CreateTask  Throughput `json:"createTask"`
	ClaimOne    Throughput `json:"claimWork1ReportCompleted"`
	ClaimMany   Throughput `json:"claimWork32ReportCompleted"`
	Wake        Latency    `json:"pendingToClaimedMilliseconds"`
	Idle        Idle       `json:"parkedWorkers"`
	StartMillis float64    `json:"emptyStartToFirst200Milliseconds,omitempty"`
}

type bench struct {
	Options
	root  *url.URL
	queue string // task queue of this run
}

// Run measures everything.
func Run(ctx context.Context, o Options) (*Report, error) {
	root, err := url.Parse(o.RootURL)
	if err != nil {
		return nil, err
	}
	if o.Clients == 0 {
		o.Clients = 32
	}
	if o.Duration == 0 {
		o.Duration = 5 * time.Second
	}
	if o.Parked == 0 {
		o.Parked = 1000
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	b := &bench{Options: o, root: root}
	rep := &Report{Started: time.Now().UTC().Format(time.RFC3339), Clients: o.Clients}
	rep.LoadAverage[0] = loadAverage()

	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"createTask", func(ctx context.Context) (err error) {
			b.queue = "bench/one"
			rep.CreateTask, err = b.create(ctx)
			return err
		}},
		{"claimWork(1) + reportCompleted", func(ctx context.Context) (err error) {
			if err := b.backlog(ctx, "bench/one", 10_000); err != nil {
				return err
			}
			rep.ClaimOne, err = b.claim(ctx, o.Clients, 1)
			return err
		}},
		{"claimWork(32) + reportCompleted", func(ctx context.Context) (err error) {
			if err := b.backlog(ctx, "bench/many", int(o.Duration.Seconds()*15_000)); err != nil {
				return err
			}
			rep.ClaimMany, err = b.claim(ctx, o.Clients, 32)
			return err
		}},
		{"pending to claimed", func(ctx context.Context) (err error) {
			b.queue = "bench/wake"
			rep.Wake, err = b.wake(ctx)
			return err
		}},
		{"parked workers", func(ctx context.Context) (err error) {
			b.queue = "bench/idle"
			rep.Idle, err = b.idle(ctx)
			return err
		}},
	} {
		o.Progress(part.name)
		if err := part.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	rep.LoadAverage[1] = loadAverage()
	return rep, nil
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// samples collects durations by call.
type samples struct {
	mu sync.Mutex
	by map[string][]time.Duration
}

func (s *samples) add(call string, took []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = map[string][]time.Duration{}
	}
	s.by[call] = append(s.by[call], took...)
}

func latency(d []time.Duration) Latency {
	if len(d) == 0 {
		return Latency{}
	}
	slices.Sort(d)
	ms := func(q float64) float64 { return float64(d[int(q*float64(len(d)-1))].Microseconds()) / 1000 }
	return Latency{P50: ms(.5), P99: ms(.99), Max: ms(1)}
}

// measure runs work on n connections until the time is over, or until one of
// them says that there is nothing left.
func (b *bench) measure(ctx context.Context, n int, work func(c *conn, record func(call string, began time.Time)) (done int, more bool, err error)) (Throughput, error) {
	before, err := b.figures(ctx)
	if err != nil {
		return Throughput{}, err
	}
	var (
		all   samples
		count atomic.Int64
		wg    sync.WaitGroup
		errs  = make(chan error, n)
		began = time.Now()
	)
	for range n {
		c, err := dial(b.root, b.Credentials)
		if err != nil {
			return Throughput{}, err
		}
		wg.Go(func() {
			defer c.c.Close()
			mine := map[string][]time.Duration{}
			record := func(call string, began time.Time) { mine[call] = append(mine[call], time.Since(began)) }
			for time.Since(began) < b.Duration && ctx.Err() == nil {
				done, more, err := work(c, record)
				count.Add(int64(done))
				if err != nil {
					errs <- err
					return
				}
				if !more {
					break
				}
			}
			for call, d := range mine {
				all.add(call, d)
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		return Throughput{}, err
	default:
	}
	after, err := b.figures(ctx)
	if err != nil {
		return Throughput{}, err
	}
	t := Throughput{Operations: count.Load(), Seconds: round(took.Seconds(), 3), Millis: map[string]Latency{}}
	t.PerSecond = round(float64(t.Operations)/took.Seconds(), 0)
	if t.Operations > 0 {
		t.ServerCPU = round((after["process_cpu_seconds_total"]-before["process_cpu_seconds_total"])*1e6/float64(t.Operations), 1)
		t.Statements = round((after["taskcluster_store_statements_total"]-before["taskcluster_store_statements_total"])/float64(t.Operations), 2)
	}
	for call, d := range all.by {
		t.Millis[call] = latency(d)
	}
	return t, ctx.Err()
}

func round(f float64, digits int) float64 {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64)
	return v
}

// figures reads the server's own counters.
func (b *bench) figures(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.root.String()+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for line := range strings.Lines(text.String()) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			out[name] = v
		}
	}
	return out, nil
}
