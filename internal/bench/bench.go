// Package bench measures a deployment: how many tasks it creates, hands out and
// resolves per second, how long that takes, what it costs the server, how
// quickly a waiting worker is woken, what long queues and large groups cost, and
// how fast artifacts come and go. Everything goes over HTTP with signed
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
	Only        []string      // names of Parts to measure; all when empty
	Clients     int           // parallel connections; 32 when zero
	Duration    time.Duration // of each part; 5 s when zero
	Parked      int           // parked workers of the idle part; 1,000 when zero
	Subscribers int           // parked subscribers of the parts sse and websocket; 10,000 when zero
	Depth       int           // pending tasks of the depth part; 100,000 when zero
	Artifact    int64         // bytes of the artifact that is uploaded and downloaded; 256 MiB when zero
	Progress    func(string)  // told what is measured now; may be nil

	// For Self: the PostgreSQL database to use, a file when empty, and the number
	// of processes that share it, one when zero. The load is spread over them.
	PostgresURL string
	Nodes       int

	addresses []string // of the nodes, when there are several
}

func (o *Options) defaults() error {
	for _, name := range o.Only {
		if name != StartPart && !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("there is no part %q; there are %s", name, strings.Join(Parts(), ", "))
		}
	}
	set := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	set(&o.Clients, 32)
	set(&o.Parked, 1000)
	set(&o.Nodes, 1)
	set(&o.Depth, 100_000)
	set(&o.Subscribers, 10_000)
	if o.Duration == 0 {
		o.Duration = 5 * time.Second
	}
	if o.Artifact == 0 {
		o.Artifact = 256 << 20
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return nil
}

// measures says whether a part is asked for.
func (o *Options) measures(name string) bool {
	return len(o.Only) == 0 || slices.Contains(o.Only, name)
}

type bench struct {
	Options
	root   *url.URL
	queue  string // task queue of this part
	dialed int    // connections made so far
}

// dial connects to the deployment, to one node after the other.
func (b *bench) dial() (*conn, error) {
	address := ""
	if n := len(b.addresses); n > 0 {
		address = b.addresses[b.dialed%n]
		b.dialed++
	}
	return dial(b.root, address, b.Credentials)
}

// part is one thing to measure. It makes what it needs itself.
type part struct {
	name, title string
	run         func(*bench, context.Context, *Report) error
}

var parts = []part{
	{"create", "createTask", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.CreateTask, err = b.create(ctx)
		return err
	}},
	{"create100", "createTasks of 100", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.CreateTasks, err = b.createMany(ctx)
		return err
	}},
	{"claim1", "claimWork(1) + reportCompleted", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.ClaimOne, err = b.claim(ctx, b.Clients, 1)
		return err
	}},
	{"claim32", "claimWork(32) + reportCompleted", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.ClaimMany, err = b.claim(ctx, b.Clients, 32)
		return err
	}},
	{"status", "status", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.Status, err = b.status(ctx)
		return err
	}},
	{"wake", "pending to claimed", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.Wake, err = b.wake(ctx)
		return err
	}},
	{"parked", "parked workers", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.Idle, err = b.idle(ctx)
		return err
	}},
	{"group", "listTaskGroup", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.Group, err = b.group(ctx)
		return err
	}},
	{"artifact", "artifact upload and download", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.Artifact, err = b.artifact(ctx)
		return err
	}},
	{"sse", "subscribers by Server-Sent Events", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.SSE, err = b.subscribers(ctx, "/api/events/v1/connect/", "event: ready")
		return err
	}},
	{"websocket", "subscribers by WebSocket", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.WebSocket, err = b.subscribers(ctx, "/api/events/v1/socket", `"event":"ready"`)
		return err
	}},
	{"depth", "claims from a long queue", func(b *bench, ctx context.Context, r *Report) (err error) {
		r.Depth, err = b.depth(ctx)
		return err
	}},
}

// StartPart is the name of the part that Self measures and Run does not.
const StartPart = "start"

// Parts are the names that Options.Only may have.
func Parts() []string {
	names := []string{StartPart}
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// Run measures a deployment.
func Run(ctx context.Context, o Options) (*Report, error) {
	root, err := url.Parse(o.RootURL)
	if err != nil {
		return nil, err
	}
	if err := o.defaults(); err != nil {
		return nil, err
	}
	b := &bench{Options: o, root: root}
	rep := &Report{Started: time.Now().UTC().Format(time.RFC3339), Clients: o.Clients, Nodes: len(o.addresses)}
	rep.LoadAverage[0] = loadAverage()
	for _, p := range parts {
		if !o.measures(p.name) {
			continue
		}
		o.Progress(p.title)
		b.queue = "bench/" + p.name
		if err := p.run(b, ctx, rep); err != nil {
			return nil, fmt.Errorf("%s: %w", p.title, err)
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
func (b *bench) measure(ctx context.Context, n int, work func(c *conn, record func(call string, began time.Time)) (done int, more bool, err error)) (*Throughput, error) {
	before, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	var (
		all   samples
		count atomic.Int64
		wg    sync.WaitGroup
		errs  = make(chan error, n)
		began = time.Now()
	)
	for range n {
		c, err := b.dial()
		if err != nil {
			return nil, err
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
		return nil, err
	default:
	}
	after, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	t := &Throughput{Operations: count.Load(), Seconds: round(took.Seconds(), 3), Millis: map[string]Latency{}}
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

// figures reads the server's own counters, summed up over all nodes.
func (b *bench) figures(ctx context.Context) (map[string]float64, error) {
	out := map[string]float64{}
	if len(b.addresses) == 0 {
		return out, addFigures(ctx, b.root.String(), out)
	}
	for _, address := range b.addresses {
		if err := addFigures(ctx, "http://"+address, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func addFigures(ctx context.Context, server string, to map[string]float64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			to[name] += v
		}
	}
	return nil
}
