package queue

import (
	"context"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

func TestDependencies(t *testing.T) {
	d := deploy(t)
	// C11
	self := slugid.New().String()
	d.call(root, "PUT", "/task/"+self, d.definition(with{"dependencies": []string{self}})).want(200, `"state":"unscheduled"`)
	d.wantEvents("task-defined")
	for range 2 { // C30
		d.call(root, "POST", "/task/"+self+"/schedule", nil).want(200)
		d.wantState(self, "pending", "scheduled", "")
	}
	d.wantEvents("task-pending")
	d.claim("w", 1)
	d.report(self, 0, "completed", nil).want(200)

	// C12
	id, missing := slugid.New().String(), slugid.New().String()
	d.call(root, "PUT", "/task/"+id, d.definition(with{"dependencies": []string{self, missing}})).want(400, "InputError", missing)
	d.call(root, "GET", "/task/"+id, nil).want(404)
	brief := d.create(with{"expires": d.clock.Now().Add(time.Hour).String()})
	d.call(root, "PUT", "/task/"+id, d.definition(with{"dependencies": []string{brief}, "deadline": d.clock.Now().Add(2 * time.Hour).String()})).
		want(400, "InputError", brief, "expire before")
	d.kinds()

	// C13
	d.create(with{"dependencies": []string{self}})
	d.wantEvents("task-defined", "task-pending")
	for _, id := range d.claimAll() {
		d.report(id, 0, "completed", nil).want(200)
	}

	// two dependencies; the second releases
	a, b := d.create(), d.create()
	c := d.create(with{"dependencies": []string{a, b}})
	d.claimAll()
	d.report(a, 0, "completed", nil).want(200)
	d.wantState(c, "unscheduled", "", "")
	d.kinds()
	d.report(b, 0, "completed", nil).want(200)
	d.wantState(c, "pending", "scheduled", "")
	d.wantEvents("task-completed", "task-pending", "task-group-resolved")
	// Satisfaction is for good, also when the dependency runs again and fails.
	d.call(root, "POST", "/task/"+a+"/rerun", nil).want(200)
	d.wantState(c, "pending", "scheduled", "")
}

// What is past its deadline does not begin, also while nobody has resolved it yet:
// the loop that does has not started here.
func TestPastTheDeadline(t *testing.T) {
	d := deploy(t)
	required, _ := d.run(with{"deadline": d.clock.Now().Add(2 * time.Hour).String()})
	dependent := d.create(with{"dependencies": []string{required}})
	waiting := d.create()
	d.clock.Advance(time.Hour) // to the moment itself
	d.kinds()
	claim := with{"workerGroup": "wg", "workerId": "w", "tasks": 1}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond) // it waits for work
	defer cancel()
	if a := d.callContext(ctx, root, "POST", "/claim-work/"+testQueue, claim); strings.Contains(string(a.body), waiting) {
		t.Errorf("claimed: %s", a.body)
	}
	d.wantState(waiting, "pending", "scheduled", "")
	d.report(required, 0, "completed", nil).want(200)
	d.wantState(dependent, "unscheduled", "", "")
	d.wantEvents("task-completed", "task-group-resolved")
	if err := d.expireNow(); err != nil {
		t.Fatal(err)
	}
	d.wantState(waiting, "exception", "scheduled", "deadline-exceeded")
	d.wantState(dependent, "exception", "exception", "deadline-exceeded")
}

// C14
func TestRequires(t *testing.T) {
	d := deploy(t)
	for _, how := range []string{"failed", "cancel", "exception"} {
		a, _ := d.run()
		all := d.create(with{"dependencies": []string{a}, "requires": "all-completed"})
		any := d.create(with{"dependencies": []string{a}, "requires": "all-resolved"})
		switch how {
		case "cancel":
			d.call(root, "POST", "/task/"+a+"/cancel", nil).want(200)
		case "exception":
			d.exception(a, 0, "internal-error").want(200)
		default:
			d.report(a, 0, how, nil).want(200)
		}
		d.wantState(all, "unscheduled", "", "")
		d.wantState(any, "pending", "scheduled", "")
		d.claim("w", 1)
		// run again, and completed this time: released after all
		d.call(root, "POST", "/task/"+a+"/rerun", nil).want(200)
		d.claim("w", 1)
		d.report(a, 1, "completed", nil).want(200)
		d.wantState(all, "pending", "scheduled", "")
		d.claim("w", 1)
		// created later: satisfied from the beginning
		d.call(root, "POST", "/task/"+d.create(with{"dependencies": []string{a}})+"/cancel", nil).want(200)
	}
}

// A retry is no resolution.
func TestRetryReleasesNobody(t *testing.T) {
	d := deploy(t)
	a, _ := d.run()
	b := d.create(with{"dependencies": []string{a}, "requires": "all-resolved"})
	d.exception(a, 0, "worker-shutdown").want(200)
	d.wantState(b, "unscheduled", "", "")
	d.claim("w", 1)
	d.exception(a, 0, "worker-shutdown").want(200) // F12
	d.wantState(b, "unscheduled", "", "")
	d.exception(a, 1, "internal-error").want(200)
	d.wantState(b, "pending", "scheduled", "")
}

// C15: more dependents than one transaction releases, and a restart half way.
func TestManyDependents(t *testing.T) {
	const n = 2*releaseChunk + 50
	dir, c := t.TempDir(), testClock()
	d := deployIn(t, dir, c) // the loops do not run
	a, _ := d.run()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = d.create(with{"dependencies": []string{a}})
	}
	d.report(a, 0, "completed", nil).want(200)
	count := func() int { return int(d.call(root, "GET", "/pending/"+testQueue, nil).at("pendingTasks").(float64)) }
	if got := count(); got != releaseChunk {
		t.Errorf("the resolution released %d, want %d", got, releaseChunk)
	}
	d.wantState(ids[0], "pending", "scheduled", "")
	d.wantState(ids[n-1], "unscheduled", "", "")
	d.stop()
	d = deployIn(t, dir, c).start()
	eventually(t, "all dependents are pending", func() bool { return count() == n })
	d.wantState(ids[n-1], "pending", "scheduled", "")
	pending := 0
	for _, m := range d.messages() {
		if strings.HasSuffix(m.Exchange, "task-pending") {
			pending++
		}
	}
	if pending != n+1 {
		t.Errorf("%d task-pending, want %d", pending, n+1)
	}
	seen, token := 0, ""
	for {
		page := d.call(root, "GET", "/task/"+a+"/dependents?limit=100"+token, nil).want(200)
		for i := range page.len("tasks") {
			if page.string("tasks", i, "status", "taskId") != ids[seen] {
				t.Fatalf("dependent %d is another one", seen)
			}
			seen++
		}
		if page.string("continuationToken") == "" {
			break
		}
		token = "&continuationToken=" + page.string("continuationToken")
	}
	if seen != n {
		t.Errorf("listed %d dependents, want %d", seen, n)
	}
}

// C16, F17
func TestDependentsExpire(t *testing.T) {
	d := deploy(t)
	a := d.create()
	d.create(with{"dependencies": []string{a}, "expires": d.clock.Now().Add(2 * time.Hour).String()})
	b := d.create(with{"dependencies": []string{a}})
	if got := d.call(root, "GET", "/task/"+a+"/dependents", nil).want(200); got.len("tasks") != 2 {
		t.Error(got.body)
	}
	d.clock.Advance(3 * time.Hour)
	if got := d.call(root, "GET", "/task/"+a+"/dependents", nil).want(200); got.len("tasks") != 1 || got.string("tasks", 0, "status", "taskId") != b {
		t.Error(got.body)
	}
	d.call(root, "GET", "/task/"+slugid.New().String()+"/dependents", nil).want(404)
	d.clock.Advance(-3 * time.Hour)
}

// C17, F5
func TestDependencyLimit(t *testing.T) {
	d := deploy(t)
	d.queue.maxDependencies = 2
	a, b, c := d.create(), d.create(), d.create()
	d.create(with{"dependencies": []string{a, b}})
	d.call(root, "PUT", "/task/"+slugid.New().String(), d.definition(with{"dependencies": []string{a, b, c}})).
		want(400, "InputError", "exceeds the maximum allowed number of dependencies")
}
