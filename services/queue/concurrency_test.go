package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"

	"pgregory.net/rapid"
)

func limited(key string, limit any) with {
	return with{"extra": with{"concurrency": with{"key": key, "limit": limit}}}
}

func TestConcurrencyRefusals(t *testing.T) {
	d := deploy(t)
	for what, value := range map[string]any{
		"is not an object":                        "x",
		"has no limit":                            with{"key": "k"},
		"has no key":                              with{"limit": 1},
		"has a limit that is not such a number":   with{"key": "k", "limit": 0},
		"has a limit that is not such a number.":  with{"key": "k", "limit": 1.5},
		"has a limit that is not such a number. ": with{"key": "k", "limit": "1"},
		"has a key that is not such a string":     with{"key": "", "limit": 1},
		"has a key that is not such a string.":    with{"key": "ä", "limit": 1},
		"has a key that is not such a string. ":   with{"key": strings.Repeat("k", 256), "limit": 1},
		`has the unknown member "max"`:            with{"key": "k", "limit": 1, "max": 2},
	} {
		a := d.call(root, "PUT", "/task/AAAAAAAATAOAAAAAAAAAAA", d.definition(with{"extra": with{"concurrency": value}}))
		a.want(400, "InputError", "task.extra.concurrency "+strings.TrimSpace(what))
	}
	d.create(limited(strings.Repeat("~", 255), 5.0))
	d.create(limited(" ", 1e300))
}

// claimed claims up to n tasks and returns their ids.
func (d *deployment) claimed(n int) (ids []string) {
	d.t.Helper()
	claims, err := d.claimNow(context.Background(), workerName{"wg", "w"}, n, noAudit)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range claims {
		ids = append(ids, c.task.id.String())
	}
	return ids
}

// claimNow claims up to n tasks for a worker, without waiting for one.
func (d *deployment) claimNow(ctx context.Context, w workerName, n int, audit func(*store.Tx)) ([]claim, error) {
	search := d.queue.pending.enter(testQueue, n)
	defer search.leave()
	return search.claim(ctx, w, audit)
}

func TestConcurrencyLimit(t *testing.T) {
	d := deploy(t)
	a := d.create(limited("k", 1))
	b := d.create(limited("k", 1))
	high := d.create(limited("k", 2), with{"priority": "high"})
	c := d.create()
	other := d.create(limited("k", 1), with{"projectId": "other"})
	// high goes first and leaves no room but for another of its own limit.
	want := []string{high, c, other}
	if got := d.claimed(32); !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	d.call(root, "POST", "/task/"+a+"/runs/0/claim", with{"workerGroup": "wg", "workerId": "w"}).
		want(409, "can't be claimed now: 1 or more runs with its concurrency key \"k\" are live")
	// A worker that waits is woken by whatever ends the run, in the order of age.
	ends := []func(id string){
		func(id string) { d.report(id, 0, "completed", nil).want(200) },
		func(id string) { d.call(root, "POST", "/task/"+id+"/cancel", nil).want(200) },
	}
	live := high
	for i, next := range []string{a, b} {
		parked := d.park(t.Context(), "w", 4)
		eventually(t, "the worker waits", func() bool { return d.parked() == 1 })
		ends[i](live)
		got := <-parked
		if got.want(200).len("tasks") != 1 || got.string("tasks", 0, "status", "taskId") != next {
			t.Fatalf("%s, want %s", got.body, next)
		}
		live = next
	}
	d.checkCounters(t)
	// Retries keep the key, and a run that is retried is live no more.
	late := d.create(limited("k", 1))
	if got := d.claimed(1); got != nil {
		t.Fatal(got)
	}
	d.report(c, 0, "completed", nil).want(200)
	d.report(other, 0, "completed", nil).want(200)
	d.clock.Advance(time.Millisecond)
	d.exception(live, 0, "worker-shutdown").want(200)
	if got := d.claimed(2); !slices.Equal(got, []string{late}) { // the retry is younger
		t.Fatal(got)
	}
	// Claim expiry.
	d.clock.Advance(21 * time.Minute)
	if err := d.expireNow(); err != nil {
		t.Fatal(err)
	}
	if got := d.claimed(2); !slices.Equal(got, []string{live}) {
		t.Fatal(got)
	}
	// The count survives a restart.
	d.stop()
	d = deployIn(t, d.dir, d.clock)
	if got := d.claimed(2); got != nil {
		t.Fatal(got)
	}
	// The worker is gone.
	d.clock.Advance(time.Millisecond)
	if n, err := d.queue.WorkerGone(t.Context(), testQueue, "wg", "w"); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	if got := d.claimed(1); !slices.Equal(got, []string{late}) {
		t.Fatal(got)
	}
	// The deadline.
	d.clock.Advance(3 * time.Hour)
	for range 3 {
		if err := d.expireNow(); err != nil {
			t.Fatal(err)
		}
	}
	fresh := d.create(limited("k", 1))
	// claimTask counts as well.
	d.call(root, "POST", "/task/"+fresh+"/runs/0/claim", with{"workerGroup": "wg", "workerId": "w"}).want(200)
	d.create(limited("k", 1))
	if got := d.claimed(1); got != nil {
		t.Fatal(got)
	}
	d.checkCounters(t)
}

// Many workers at once never have more than the limit, and leave nothing.
func TestConcurrencyRace(t *testing.T) { concurrencyRace([]*deployment{deploy(t)}) }

func concurrencyRace(nodes []*deployment) {
	d := nodes[0]
	t := d.t
	const n, limit = 60, 3
	for range n {
		d.create(limited("k", limit))
	}
	var mu sync.Mutex
	live, most, done := 0, 0, 0
	var all sync.WaitGroup
	for i := range 16 {
		d := nodes[i%len(nodes)]
		all.Go(func() {
			for {
				mu.Lock()
				over := done == n
				mu.Unlock()
				if over {
					return
				}
				claims, err := d.claimNow(context.Background(), workerName{"wg", fmt.Sprint("w", i)}, 2, noAudit)
				if err == nil && len(claims) == 0 {
					time.Sleep(time.Millisecond)
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				live += len(claims)
				most = max(most, live)
				mu.Unlock()
				for _, c := range claims {
					mu.Lock()
					live--
					done++
					mu.Unlock()
					item := &resolution{id: c.task.id, state: completed, why: reasonCompleted, audit: noAudit}
					if err := d.queue.resolves.Do(context.Background(), item); err != nil || item.refusal != nil {
						t.Error(err, item.refusal)
					}
				}
			}
		})
	}
	all.Wait()
	if most > limit || done != n {
		t.Errorf("%d live at once, %d done", most, done)
	}
}

// The order with keys against a list that is searched: who is next is the best
// run whose key has room.
func TestConcurrencyModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			pendingRun
			queue string
		}
		m := newMemoryPending()
		var waiting []entry
		var taken []entry
		running := map[int64]entry{}
		live := func(key string) (n int) {
			for _, e := range taken {
				if e.limit != nil && e.limit.key == key {
					n++
				}
			}
			for _, e := range running {
				if e.limit != nil && e.limit.key == key {
					n++
				}
			}
			return n
		}
		best := func(queue string) int {
			found := -1
			for i, e := range waiting {
				if e.queue == queue && (e.limit == nil || live(e.limit.key) < e.limit.limit) &&
					(found < 0 || e.before(&waiting[found].pendingRun)) {
					found = i
				}
			}
			return found
		}
		queues := []string{"q/a", "q/b"}
		next := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				next++
				e := entry{pendingRun{row: next, scheduled: clock.Time(rapid.IntRange(1, 5).Draw(t, "at")), priority: priority(rapid.IntRange(1, 3).Draw(t, "priority"))},
					rapid.SampledFrom(queues).Draw(t, "queue")}
				if key := rapid.SampledFrom([]string{"", "x", "x", "y"}).Draw(t, "key"); key != "" {
					e.limit = &concurrency{key, rapid.IntRange(1, 3).Draw(t, "limit")}
				}
				waiting = append(waiting, e)
				m.apply([]pendingChange{{pendingRun: e.pendingRun, queue: e.queue}})
			},
			"take": func(t *rapid.T) {
				queue := rapid.SampledFrom(queues).Draw(t, "queue")
				n := rapid.IntRange(1, 3).Draw(t, "n")
				var want []int64
				for len(want) < n {
					i := best(queue)
					if i < 0 {
						break
					}
					want = append(want, waiting[i].row)
					taken = append(taken, waiting[i])
					waiting = slices.Delete(waiting, i, i+1)
				}
				runs, wait := m.take(queue, n)
				if wait != nil {
					m.leave(wait)
				}
				var got []int64
				for i, r := range runs {
					got = append(got, r.row)
					taken[len(taken)-len(runs)+i].hold = r.hold
				}
				if !slices.Equal(got, want) {
					t.Fatalf("took %v, want %v", got, want)
				}
			},
			"claimed, put back, or lost": func(t *rapid.T) {
				if len(taken) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(taken)-1).Draw(t, "which")
				e := taken[i]
				taken = slices.Delete(taken, i, i+1)
				switch rapid.IntRange(0, 2).Draw(t, "what") {
				case 0:
					running[e.row] = e
					m.apply([]pendingChange{{pendingRun: pendingRun{row: e.row, limit: e.limit}, running: true}})
				case 1:
					m.putBack(e.queue, []pendingRun{e.pendingRun})
					e.hold = nil
					waiting = append(waiting, e)
				case 2:
					m.apply([]pendingChange{{pendingRun: pendingRun{row: e.row, limit: e.limit}}})
					m.release([]pendingRun{e.pendingRun})
				}
			},
			"end or retry": func(t *rapid.T) {
				if len(running) == 0 {
					t.Skip()
				}
				row := rapid.SampledFrom(sortedKeys(running)).Draw(t, "which")
				e := running[row]
				delete(running, row)
				e.hold = nil
				if rapid.Bool().Draw(t, "retry") {
					e.scheduled += 3
					waiting = append(waiting, e)
					m.apply([]pendingChange{{pendingRun: e.pendingRun, queue: e.queue}})
				} else {
					m.apply([]pendingChange{{pendingRun: pendingRun{row: row, limit: e.limit}}})
				}
			},
			"cancel or change priority": func(t *rapid.T) {
				if len(waiting) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(waiting)-1).Draw(t, "which")
				if rapid.Bool().Draw(t, "cancel") {
					m.apply([]pendingChange{{pendingRun: pendingRun{row: waiting[i].row, limit: waiting[i].limit}}})
					waiting = slices.Delete(waiting, i, i+1)
				} else {
					waiting[i].priority = priority(rapid.IntRange(1, 3).Draw(t, "priority"))
					m.apply([]pendingChange{{pendingRun: waiting[i].pendingRun, queue: waiting[i].queue}})
				}
			},
			"": func(t *rapid.T) {
				if len(waiting)+len(taken)+len(running) == 0 && (len(m.gates) > 0 || len(m.queues) > 0 || len(m.keyed) > 0) {
					t.Fatalf("left over: %v %v %v", m.gates, m.queues, m.keyed)
				}
				keys := map[string]bool{}
				for _, e := range waiting {
					if e.limit != nil {
						keys[e.limit.key] = true
					}
				}
				for key := range keys {
					if g := m.gates[key]; g == nil || len(g.live) != live(key) {
						t.Fatalf("%s: %+v, want %d live", key, g, live(key))
					}
				}
			},
		})
	})
}

// However many wait for a key, a claim and a resolution move few of them.
func BenchmarkConcurrencyWaiting(b *testing.B) {
	m := newMemoryPending()
	limit := &concurrency{"k", 1}
	for i := range int64(100_000) {
		m.apply([]pendingChange{{pendingRun: pendingRun{row: i, scheduled: clock.Time(i), priority: lowest, limit: limit}, queue: "q/x"}})
	}
	for row := int64(100_000); b.Loop(); row++ {
		runs, _ := m.take("q/x", 2)
		if len(runs) != 1 {
			b.Fatal(runs)
		}
		m.apply([]pendingChange{{pendingRun: runs[0], running: true}})
		m.apply([]pendingChange{{pendingRun: pendingRun{row: runs[0].row, scheduled: clock.Time(row), priority: lowest, limit: limit}, queue: "q/x"}})
	}
}
