package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// What an operation costs in statements and allocations is asserted; time is
// for the benchmarks.

func noAudit(*store.Tx) {}

// body is a valid createTask payload with its defaults.
func (d *deployment) body(changes ...map[string]any) []byte {
	d.t.Helper()
	text, err := json.Marshal(d.definition(changes...))
	if err != nil {
		d.t.Fatal(err)
	}
	sc, err := d.schemas.Schema("queue", "v1/create-task-request.json#")
	if err != nil {
		d.t.Fatal(err)
	}
	doc, problems, err := sc.Accept(text)
	if err != nil || problems != nil {
		d.t.Fatal(err, problems)
	}
	return doc
}

// alone is the call that creates one task.
func alone(item *creation) *creations {
	return &creations{items: []*creation{item}, audit: noAudit}
}

func (d *deployment) creation(body []byte, group slugid.ID) *creation {
	def, err := parseDefinition(slugid.New(), body)
	if err != nil {
		d.t.Fatal(err)
	}
	if !group.IsZero() {
		def.group = group
	}
	item := &creation{def: def}
	item.text, item.at = def.text()
	return item
}

// A commit on PostgreSQL takes a number of statements that does not depend on how
// many tasks it is about.
func TestSetsOnPostgres(t *testing.T) {
	const n = 64
	d := nodes(t, 1)[0]
	body := d.body()
	w := workerName{"wg", "w"}
	if err := d.queue.see(t.Context(), testQueue, w); err != nil {
		t.Fatal(err)
	}
	check := func(what string, most, statements, commits int64) {
		t.Helper()
		t.Logf("%s: %d statements for %d tasks in %d commits", what, statements, n, commits)
		if statements > most*commits {
			t.Errorf("%s: %d statements for %d tasks in %d commits, at most %d for each commit are allowed", what, statements, n, commits, most)
		}
	}
	items := make([]*creation, n)
	for i := range items {
		items[i] = d.creation(body, slugid.ID{})
	}
	statements, commits := d.together(n, func(i int) error { return d.queue.creates.Do(context.Background(), alone(items[i])) })
	check("create, groups of their own", 7, statements, commits) // groups, tasks, definitions, order, its head, counter, events
	chain := &creations{audit: noAudit}
	for i := range n {
		item := d.creation(body, slugid.ID{})
		item.def.dependencies = []slugid.ID{items[i].def.id}
		if i > 0 {
			item.def.dependencies = append(item.def.dependencies, chain.items[i-1].def.id)
		}
		chain.items = append(chain.items, item)
	}
	chain.items = inOrder(chain.items)
	statements, commits = d.together(1, func(int) error { return d.queue.creates.Do(context.Background(), chain) })
	check("create many, each with two dependencies", 7, statements, commits) // what is there, groups, tasks, definitions, dependencies, marks, events
	for _, item := range chain.items {
		if item.refusal != nil {
			t.Fatal(item.refusal)
		}
	}
	var claimed sync.Map
	statements, commits = d.together(n/4, func(i int) error {
		claims, err := d.claimNow(context.Background(), w, 4, noAudit)
		for _, c := range claims {
			claimed.Store(c.task.id, c.task)
		}
		if err == nil && len(claims) != 4 {
			err = fmt.Errorf("%d claims", len(claims))
		}
		return err
	})
	check("claim 4 each, one worker", 6+n/4-1, statements, commits) // order twice, tasks, counter, events, each record of the worker
	statements, commits = d.together(n, func(i int) error {
		item := &reclaimItem{id: items[i].def.id, audit: noAudit}
		if err := d.queue.reclaims.Do(context.Background(), item); err != nil {
			return err
		}
		return item.refusal
	})
	check("reclaim", 2, statements, commits)
	for i := range items { // the chain stays as it is
		if _, ok := claimed.Load(items[i].def.id); !ok {
			t.Fatal("not claimed")
		}
	}
	alone := make([]*creation, n) // whose dependents are not looked for
	for i := range alone {
		alone[i] = d.creation(body, slugid.ID{})
		if err := d.queue.creates.Do(context.Background(), &creations{items: alone[i : i+1], audit: noAudit}); err != nil {
			t.Fatal(err)
		}
	}
	if claims, err := d.claimNow(context.Background(), w, n, noAudit); err != nil || len(claims) != n {
		t.Fatal(len(claims), err)
	}
	statements, commits = d.together(n, func(i int) error {
		item := &resolution{id: alone[i].def.id, state: completed, why: reasonCompleted, audit: noAudit}
		if err := d.queue.resolves.Do(context.Background(), item); err != nil {
			return err
		}
		return item.refusal
	})
	check("complete, groups of their own", 5, statements, commits) // read, tasks, groups, counter, events
}

// together runs n operations that share a transaction, or few, and returns the
// number of statements and of commits.
func (d *deployment) together(n int, op func(i int) error) (statements, commits int64) {
	d.t.Helper()
	release := make(chan struct{})
	entered := make(chan struct{})
	var blocker, all sync.WaitGroup
	blocker.Go(func() {
		_ = d.store.Write(context.Background(), func(*store.Tx) error {
			close(entered)
			<-release
			return nil
		})
	})
	<-entered
	before := d.store.Stats()
	var started atomic.Int64
	for i := range n {
		all.Go(func() {
			started.Add(1)
			if err := op(i); err != nil {
				d.t.Error(err)
			}
		})
	}
	eventually(d.t, "all have begun", func() bool { return started.Load() == int64(n) })
	close(release)
	blocker.Wait()
	all.Wait()
	after := d.store.Stats()
	return after.Statements - before.Statements, after.Commits - before.Commits - 1
}

func TestStatementsPerOperation(t *testing.T) {
	const n = 64
	d := deploy(t)
	body := d.body()
	group := slugid.New()
	w := workerName{"wg", "w"}
	if err := d.queue.see(t.Context(), testQueue, w); err != nil {
		t.Fatal(err)
	}
	create := func(group slugid.ID) (ids []slugid.ID, statements, commits int64) {
		items := make([]*creation, n)
		ids = make([]slugid.ID, n)
		for i := range items {
			items[i] = d.creation(body, group)
			ids[i] = items[i].def.id
		}
		statements, commits = d.together(n, func(i int) error { return d.queue.creates.Do(context.Background(), alone(items[i])) })
		return ids, statements, commits
	}
	report := func(ids []slugid.ID) (statements, commits int64) {
		return d.together(n, func(i int) error {
			item := &resolution{id: ids[i], state: completed, why: reasonCompleted, audit: noAudit}
			if err := d.queue.resolves.Do(context.Background(), item); err != nil {
				return err
			}
			return item.refusal
		})
	}
	claim := func(each int) (statements, commits int64) {
		return d.together(n/each, func(int) error {
			claims, err := d.queue.waitForWork(context.Background(), testQueue, w, each, noAudit)
			if err == nil && len(claims) != each {
				err = fmt.Errorf("%d claims", len(claims))
			}
			return err
		})
	}
	// per is for each task, fixed for each commit: events, counters, shared groups.
	check := func(what string, per float64, fixed, statements, commits int64) {
		t.Helper()
		most := int64(per*n) + fixed*commits
		t.Logf("%s: %d statements for %d tasks in %d commits", what, statements, n, commits)
		if statements > most {
			t.Errorf("%s: %d statements for %d tasks in %d commits, at most %d are allowed", what, statements, n, commits, most)
		}
	}
	ids, statements, commits := create(slugid.ID{})
	check("create, groups of their own", 3, 2, statements, commits)
	statements, commits = claim(1)
	check("claim one each", 3, 2, statements, commits)
	statements, commits = report(ids)
	check("complete, groups of their own", 3, 2, statements, commits)
	ids, statements, commits = create(group)
	check("create, one group", 2, 3, statements, commits)
	statements, commits = claim(32)
	check("claim 32 each", 2+1./32, 2, statements, commits)
	statements, commits = report(ids)
	check("complete, one group", 2, 3, statements, commits)

	// One call of createTasks: as if its tasks came at once, each with a
	// dependency on the one before it, which takes one statement more.
	call := &creations{audit: noAudit}
	for i := range n {
		item := d.creation(body, group)
		if i > 0 {
			item.def.dependencies = []slugid.ID{call.items[i-1].def.id}
		}
		call.items = append(call.items, item)
	}
	call.items = inOrder(call.items)
	statements, commits = d.together(1, func(int) error { return d.queue.creates.Do(context.Background(), call) })
	check("create many, one group, a chain", 3, 3, statements, commits)
	for _, item := range call.items {
		if item.refusal != nil {
			t.Fatal(item.refusal)
		}
	}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("NOTE: the race detector allocates, too")
	}
	d := deploy(t)
	body := d.body(with{"tags": with{"a": "b"}})
	w := workerName{"wg", "w"}
	if err := d.queue.see(t.Context(), testQueue, w); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	check := func(what string, most float64, f func()) {
		t.Helper()
		got := testing.AllocsPerRun(200, f)
		t.Logf("%s: %.0f allocations", what, got)
		if got > most {
			t.Errorf("%s: %.0f allocations, at most %.0f are allowed", what, got, most)
		}
	}
	var ids []slugid.ID
	check("create", 60, func() {
		item := d.creation(body, slugid.ID{})
		if err := d.queue.creates.Do(ctx, alone(item)); err != nil || item.refusal != nil {
			t.Fatal(err, item.refusal)
		}
		ids = append(ids, item.def.id)
	})
	check("claim, with credentials", 100, func() {
		claims, err := d.queue.waitForWork(ctx, testQueue, w, 1, noAudit)
		if err != nil || len(claims) != 1 {
			t.Fatal(err, claims)
		}
		if _, err := d.queue.appendClaim(nil, &claims[0]); err != nil {
			t.Fatal(err)
		}
	})
	i := 0
	check("complete", 45, func() {
		item := &resolution{id: ids[i], state: completed, why: reasonCompleted, audit: noAudit}
		if err := d.queue.resolves.Do(ctx, item); err != nil || item.refusal != nil {
			t.Fatal(err, item.refusal)
		}
		i++
	})
	check("status", 40, func() {
		if _, err := d.queue.readTask(ctx, ids[0]); err != nil {
			t.Fatal(err)
		}
	})
	// The server's part, with the signature; the answer's own headers count.
	request := d.request(ctx, root, "GET", "/task/"+ids[0].String()+"/status", nil)
	check("status, over HTTP", 28, func() {
		w := unread{http.Header{}}
		if d.handler.ServeHTTP(w, request); w.header.Get("Etag") == "" {
			t.Fatal(w.header)
		}
	})
	if !d.store.Shared() {
		check("status, kept", 0, func() {
			if b, err := d.queue.showStatus(ctx, ids[0]); err != nil || len(b) == 0 {
				t.Fatal(err)
			}
		})
	}
	check("create 10 in one call", 10*45, func() {
		call := &creations{audit: noAudit}
		for range 10 {
			call.items = append(call.items, d.creation(body, slugid.ID{}))
		}
		call.items = inOrder(call.items)
		if err := d.queue.creates.Do(ctx, call); err != nil || call.items[9].refusal != nil {
			t.Fatal(err, call.items[9].refusal)
		}
	})
}

// unread is an answer that nobody reads.
type unread struct{ header http.Header }

func (w unread) Header() http.Header         { return w.header }
func (w unread) Write(b []byte) (int, error) { return len(b), nil }
func (w unread) WriteHeader(int)             {}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkQueue measures creations, claims and completions below HTTP, durable
// on the file system of the test directory, by 32 callers at a time.
func BenchmarkQueue(b *testing.B) {
	const callers = 32
	d := deploy(b)
	body := d.body()
	ctx := context.Background()
	workers := make([]workerName, callers)
	for i := range workers {
		workers[i] = workerName{"wg", fmt.Sprint("w", i)}
		if err := d.queue.see(ctx, testQueue, workers[i]); err != nil {
			b.Fatal(err)
		}
	}
	parallel := func(b *testing.B, op func(caller int) error) {
		var left atomic.Int64
		left.Store(int64(b.N))
		var all sync.WaitGroup
		b.ReportAllocs()
		b.ResetTimer()
		before := cpuTime()
		for caller := range callers {
			all.Go(func() {
				for left.Add(-1) >= 0 {
					if err := op(caller); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		b.StopTimer()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
		b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op") // whatever else the machine does
	}
	ids := make(chan slugid.ID, 1<<22)
	create := func(int) error {
		item := d.creation(body, slugid.ID{})
		if err := d.queue.creates.Do(ctx, alone(item)); err != nil {
			return err
		}
		return item.refusal
	}
	claim := func(n int) func(int) error {
		return func(caller int) error {
			claims, err := d.queue.waitForWork(ctx, testQueue, workers[caller], n, noAudit)
			for i := range claims {
				if _, err := d.queue.appendClaim(nil, &claims[i]); err != nil {
					return err
				}
				ids <- claims[i].task.id
			}
			return err
		}
	}
	fill := func(b *testing.B, n int) {
		var all sync.WaitGroup
		for range callers {
			all.Go(func() {
				for range n/callers + 1 {
					_ = create(0)
				}
			})
		}
		all.Wait()
	}
	b.Run("create", func(b *testing.B) { parallel(b, create) })
	b.Run("claim1", func(b *testing.B) {
		fill(b, b.N)
		parallel(b, claim(1))
	})
	b.Run("claim32", func(b *testing.B) {
		fill(b, b.N*32)
		parallel(b, claim(32))
	})
	b.Run("complete", func(b *testing.B) {
		for len(ids) < b.N {
			fill(b, 1024)
			for range 32 {
				if err := claim(32)(0); err != nil {
					b.Fatal(err)
				}
			}
		}
		parallel(b, func(int) error {
			item := &resolution{id: <-ids, state: completed, why: reasonCompleted, audit: noAudit}
			if err := d.queue.resolves.Do(ctx, item); err != nil {
				return err
			}
			return item.refusal
		})
	})
}
