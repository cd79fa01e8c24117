package queue

import (
	"context"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

func TestWorkerGone(t *testing.T) {
	d := deploy(t)
	gone := func(want int) {
		t.Helper()
		n, err := d.queue.WorkerGone(t.Context(), testQueue, "wg", "w")
		if err != nil || n != want {
			t.Fatalf("%d runs, want %d; %v", n, want, err)
		}
	}
	gone(0) // never heard of

	retried := d.create(with{"retries": 1})
	last := d.create(with{"retries": 0})
	dependent := d.create(with{"dependencies": []string{last}, "requires": "all-resolved"})
	if n := d.claim("w", 5).len("tasks"); n != 2 {
		t.Fatal(n)
	}
	others, _ := d.runBy("w2")
	done, _ := d.run()
	d.report(done, 0, "completed", nil).want(200)
	elsewhere := d.create(with{"workerType": "type2"})
	d.call(root, "POST", "/claim-work/prov/type2", with{"workerGroup": "wg", "workerId": "w", "tasks": 1}).want(200)
	d.kinds()

	gone(2)
	// In the order of the claims, as the reports of the worker would be told.
	d.wantEvents("task-exception", "task-pending", "task-exception", "task-pending", "task-group-resolved")
	s := d.wantState(retried, "pending", "retry", "")
	if s.at("status", "retriesLeft") != 0.0 || s.string("status", "runs", 0, "reasonResolved") != "worker-shutdown" ||
		s.string("status", "runs", 0, "state") != "exception" || s.string("status", "runs", 0, "resolved") == "" {
		t.Error(s.body)
	}
	d.wantState(last, "exception", "scheduled", "worker-shutdown")
	d.wantState(dependent, "pending", "scheduled", "")
	d.wantState(others, "running", "scheduled", "")
	d.wantState(elsewhere, "running", "scheduled", "")
	d.wantState(done, "completed", "scheduled", "completed")
	d.call(root, "POST", "/task/"+retried+"/runs/0/reclaim", nil).want(409)
	d.exception(retried, 0, "worker-shutdown").want(200) // a late report of the same is a repetition
	d.kinds()

	gone(0)
	d.wantEvents()

	// The next worker gets them; after its end no retry is left.
	if n := d.claim("w", 5).len("tasks"); n != 2 {
		t.Errorf("%d tasks were there to be claimed again", n)
	}
	gone(2)
	d.wantState(retried, "exception", "retry", "worker-shutdown")
}

// runBy creates a task and has a worker claim it.
func (d *deployment) runBy(worker string) (string, answer) {
	d.t.Helper()
	id := d.create()
	a := d.claim(worker, 1)
	if got := a.string("tasks", 0, "status", "taskId"); got != id {
		d.t.Fatalf("claimed %s instead of %s", got, id)
	}
	return id, a
}

// More than one transaction takes, and what the worker's successor claims
// meanwhile stays his.
func TestWorkerGoneHeldMany(t *testing.T) {
	const n = 2*goneChunk + 1
	d := deploy(t)
	body := d.body()
	w := workerName{"wg", "w"}
	if err := d.queue.see(t.Context(), testQueue, w); err != nil {
		t.Fatal(err)
	}
	d.together(n, func(int) error { return d.queue.creates.Do(context.Background(), alone(d.creation(body, slugid.ID{}))) })
	claimAll := func() {
		t.Helper()
		for claimed := 0; claimed < n; {
			claims, err := d.queue.waitForWork(t.Context(), testQueue, w, 32, noAudit)
			if err != nil || len(claims) == 0 {
				t.Fatal(claimed, err)
			}
			claimed += len(claims)
		}
	}
	claimAll()
	before := d.store.Stats()
	got, err := d.queue.WorkerGone(t.Context(), testQueue, "wg", "w")
	if err != nil || got != n {
		t.Fatal(got, err)
	}
	if commits := d.store.Stats().Commits - before.Commits; commits != 3 {
		t.Errorf("%d transactions", commits)
	}
	d.clock.Advance(time.Second)
	claimAll()
	d.clock.Advance(-time.Millisecond) // as for a call that began before these claims
	if got, err := d.queue.WorkerGone(t.Context(), testQueue, "wg", "w"); err != nil || got != 0 {
		t.Error(got, err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.queue.WorkerGone(canceled, testQueue, "wg", "w"); err == nil {
		t.Error("a canceled call did something")
	}
}
