package queue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// park calls claimWork in the background and returns when it waits.
func (d *deployment) park(ctx context.Context, worker string, n int) <-chan answer {
	d.t.Helper()
	before := d.parked()
	got := make(chan answer, 1)
	go func() {
		got <- d.callContext(ctx, root, "POST", "/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": worker, "tasks": n})
	}()
	eventually(d.t, "the worker is parked", func() bool { return d.parked() == before+1 })
	return got
}

// C18
func TestLongPollEnds(t *testing.T) {
	d := deploy(t)
	body := with{"workerGroup": "wg", "workerId": "w"}
	d.call(d.client("queue:claim-work:"+testQueue), "POST", "/claim-work/"+testQueue, body).want(403, "queue:worker-id:wg/w")
	d.call(d.client("queue:worker-id:wg/*"), "POST", "/claim-work/"+testQueue, body).want(403, "queue:claim-work:prov/type")
	d.call(root, "POST", "/claim-work/prov/Type", body).want(400, "InvalidRequestArguments")
	d.call(root, "POST", "/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": "w", "tasks": 33}).want(400, "InputValidationError")
	before := d.store.Stats()
	got := d.park(t.Context(), "w", 1)
	commits := int64(1) // that it was seen
	if d.shared() {
		commits++ // that there is nothing to claim
	}
	if after := d.store.Stats(); after.Reads != before.Reads || after.Commits != before.Commits+commits {
		t.Errorf("a parked worker cost %d reads and %d commits, want 0 and %d", after.Reads-before.Reads, after.Commits-before.Commits, commits)
	}
	d.clock.Advance(20*time.Second - time.Microsecond)
	select {
	case a := <-got:
		t.Fatalf("answered early: %s", a.body)
	default:
	}
	d.clock.Advance(time.Microsecond)
	(<-got).want(200, `{"tasks":[]}`)
	if d.parked() != 0 || !d.shared() && len(d.memory().queues) != 0 || d.shared() && len(d.queue.pending.(*databaseRuns).line.queues) != 0 {
		t.Error("something was left behind")
	}
}

// C19, C20 and the order of claims.
func TestClaimOrder(t *testing.T) {
	d := deploy(t)
	if a := d.mustClaimOne(d.create()); a.len("tasks") != 1 {
		t.Error(a.body) // two were asked for
	}
	var want []string
	var late []string
	for _, p := range []string{"low", "highest", "lowest", "medium"} {
		for range 2 {
			d.clock.Advance(time.Second)
			id := d.create(with{"priority": p})
			if p == "highest" {
				want = append(want, id)
			} else {
				late = append(late, id)
			}
		}
	}
	want = append(want, late[4], late[5], late[0], late[1], late[2], late[3]) // medium, low, lowest
	for i, got := range d.claimAll() {
		if got != want[i] {
			t.Errorf("claim %d is another task", i)
		}
	}
	// A retry goes to the back of its priority.
	d.clock.Advance(time.Second)
	next := d.create(with{"priority": "low"})
	d.clock.Advance(time.Second)
	d.exception(late[0], 0, "worker-shutdown").want(200)
	if got := d.claimAll(); got[0] != next || got[1] != late[0] {
		t.Error("the retried task was not at the back")
	}
}

func (d *deployment) mustClaimOne(id string) answer {
	d.t.Helper()
	a := d.claim("w", 2)
	if a.string("tasks", 0, "status", "taskId") != id {
		d.t.Fatalf("another task was claimed: %s", a.body)
	}
	return a
}

// 60 parked workers, 60 tasks: one each, without a query while they wait.
func TestParkedWorkersAreWoken(t *testing.T) {
	d := deploy(t)
	const n = 60
	var waits []<-chan answer
	for i := range n {
		waits = append(waits, d.park(t.Context(), fmt.Sprint("w", i), 1))
	}
	before := d.store.Stats()
	for range 100 {
		if d.parked() != n {
			t.Fatal("somebody left")
		}
	}
	if after := d.store.Stats(); after != before {
		t.Errorf("waiting touched the store: %+v, %+v", before, after)
	}
	created := map[string]bool{}
	for range n {
		created[d.create()] = true
	}
	for i, w := range waits {
		a := (<-w).want(200)
		id := a.string("tasks", 0, "status", "taskId")
		if a.len("tasks") != 1 || !created[id] || a.string("tasks", 0, "workerId") != fmt.Sprint("w", i) {
			t.Fatalf("worker %d: %s", i, a.body)
		}
		delete(created, id)
	}
}

// Runs become pending by a retry, a dependency and a rerun, too.
func TestWokenByOtherTransitions(t *testing.T) {
	d := deploy(t)
	a, _ := d.run()
	b := d.create(with{"dependencies": []string{a}})
	for _, step := range []struct {
		do   func() answer
		want string
	}{
		{func() answer { return d.exception(a, 0, "intermittent-task") }, a},
		{func() answer { return d.report(a, 1, "completed", nil) }, b},
		{func() answer { return d.call(root, "POST", "/task/"+a+"/rerun", nil) }, a},
	} {
		got := d.park(t.Context(), "w", 4)
		step.do().want(200)
		if w := (<-got).want(200); w.string("tasks", 0, "status", "taskId") != step.want || w.len("tasks") != 1 {
			t.Errorf("got %s", w.body)
		}
	}
}

// A client that goes away leaves the line; what was handed to it meanwhile is
// put back.
func TestClientGoesAway(t *testing.T) {
	d := deploy(t)
	ctx, cancel := context.WithCancel(t.Context())
	got := d.park(ctx, "gone", 1)
	other := d.park(t.Context(), "stays", 1)
	cancel()
	<-got
	if d.parked() != 1 {
		t.Fatalf("%d are parked, want 1", d.parked())
	}
	id := d.create()
	if a := (<-other).want(200); a.string("tasks", 0, "status", "taskId") != id {
		t.Error(a.body)
	}

	// Handed over, but not claimed yet: the caller leaves at this moment.
	first, second := d.create(with{"priority": "high"}), d.create()
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	claims, err := d.claimNow(ctx, workerName{"wg", "gone"}, 2, noAudit)
	if len(claims) != 0 || !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, %v", claims, err)
	}
	if got := d.claimAll(); len(got) != 2 || got[0] != first || got[1] != second {
		t.Errorf("%v, want %v", got, []string{first, second})
	}
}

// A failed commit strands nothing.
func TestFailedClaimIsPutBack(t *testing.T) {
	d := deploy(t)
	id := d.create()
	broken := errors.New("broken")
	_, err := d.claimNow(t.Context(), workerName{"wg", "w"}, 1, func(tx *store.Tx) {
		tx.BeforeCommit(func(*store.Tx) error { return broken })
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	d.wantState(id, "pending", "scheduled", "")
	d.mustClaimOne(id)
}

// A run that is resolved while somebody has taken it from memory is neither
// claimed nor put back. (In the database nobody takes one first.)
func TestMemoryResolvedWhileTaken(t *testing.T) {
	for _, extra := range []with{{}, {"concurrency": with{"key": "k", "limit": 1}}} {
		d := deploy(t)
		stale, good := d.create(with{"priority": "high", "extra": extra}), d.create()
		runs, _ := d.memory().take(testQueue, 1)
		d.call(root, "POST", "/task/"+stale+"/cancel", nil).want(200)
		claims, err := d.queue.pending.(*memoryRuns).claimTaken(t.Context(), testQueue, workerName{"wg", "w"}, runs, nil)
		if err != nil || len(claims) > 0 {
			t.Errorf("%d claims, %v", len(claims), err)
		}
		d.memory().putBack(testQueue, runs)
		if a := d.claim("w", 1); a.string("tasks", 0, "status", "taskId") != good {
			t.Error(a.body)
		}
		if m := d.memory(); len(m.places)+len(m.keyed) > 0 {
			t.Errorf("memory keeps %v %v", m.places, m.keyed)
		}
	}
}

func TestQuarantinedWorkerGetsNothing(t *testing.T) {
	dir, c := t.TempDir(), testClock()
	d := deployIn(t, dir, c)
	id, _ := d.run()
	path := "/provisioners/prov/worker-types/type/workers/wg/w"
	d.call(root, "PUT", path, with{"quarantineUntil": c.Now().Add(time.Hour).String()}).want(200)
	d.stop()
	d = deployIn(t, dir, c) // it is remembered
	d.create()
	got := make(chan answer, 1)
	ask := func() {
		got <- d.call(root, "POST", "/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": "w"})
	}
	go ask()
	eventually(t, "the answer comes after the whole wait", func() bool {
		c.Advance(time.Second)
		return len(got) == 1
	})
	(<-got).want(200, `{"tasks":[]}`)
	d.report(id, 0, "completed", nil).want(200) // it may finish
	d.call(root, "PUT", path, with{"quarantineUntil": c.Now().Add(-time.Hour).String()}).want(200)
	ask()
	if a := (<-got).want(200); a.len("tasks") != 1 {
		t.Error(a.body)
	}
}

// A worker that is quarantined while it waits gets nothing either.
func TestQuarantinedWhileWaiting(t *testing.T) {
	d := deploy(t)
	got := d.park(t.Context(), "w", 1)
	d.call(root, "PUT", "/provisioners/prov/worker-types/type/workers/wg/w", with{"quarantineUntil": d.clock.Now().Add(time.Hour).String()}).want(200)
	id := d.create()
	d.wantState(id, "pending", "scheduled", "")
	other := d.claim("v", 1) // handed to w first, and put back
	if other.string("tasks", 0, "status", "taskId") != id {
		t.Error(other.body)
	}
	d.clock.Advance(20 * time.Second)
	(<-got).want(200, `{"tasks":[]}`)
}

func TestDrain(t *testing.T) {
	d := deploy(t)
	got := d.park(t.Context(), "w", 1)
	d.queue.Drain()
	(<-got).want(200, `{"tasks":[]}`)
	d.call(root, "POST", "/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": "w"}).want(200, `{"tasks":[]}`)
}

// What is pending survives a restart, in its order.
func TestRestart(t *testing.T) {
	dir, c := t.TempDir(), testClock()
	d := deployIn(t, dir, c)
	var want []string
	for i := range 20 {
		c.Advance(time.Second)
		want = append(want, d.create(with{"priority": []string{"low", "high"}[i/10]}))
	}
	running, _ := d.run(with{"priority": "highest"})
	d.stop()
	d = deployIn(t, dir, c).start()
	got := d.claimAll()
	for i, id := range append(want[10:], want[:10]...) {
		if got[i] != id {
			t.Fatalf("claim %d is another task", i)
		}
	}
	c.Advance(20 * time.Minute)
	eventually(t, "the claim of before expires", func() bool { return d.status(running).string("status", "state") == "pending" })
}

// The alarm wakes a loop for earlier times only.
func TestAlarm(t *testing.T) {
	c := clock.NewFake(1000)
	a := newAlarm()
	woke := make(chan clock.Time)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(woke)
		for a.wait(ctx, c) {
			a.clear()
			woke <- c.Now()
		}
	}()
	a.before(3000)
	a.before(2000)
	a.before(5000) // later than what is known: not remembered, the loop asks the table
	c.Advance(500 * time.Microsecond)
	c.Advance(500 * time.Microsecond)
	if at := <-woke; at != 2000 {
		t.Errorf("woke at %d", at)
	}
	a.now()
	<-woke
	cancel()
	if _, open := <-woke; open {
		t.Error("woke for nothing")
	}
}
