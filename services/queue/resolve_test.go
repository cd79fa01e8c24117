package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

func (d *deployment) report(id string, run int, how string, body any) answer {
	d.t.Helper()
	return d.call(root, "POST", fmt.Sprintf("/task/%s/runs/%d/%s", id, run, how), body)
}

func (d *deployment) exception(id string, run int, reason string) answer {
	d.t.Helper()
	return d.report(id, run, "exception", with{"reason": reason})
}

func TestClaimAndComplete(t *testing.T) {
	d := deploy(t)
	id, a := d.run(with{"scopes": []string{"some:scope"}, "tags": with{"k": "v"}})
	taken := d.clock.Now().Add(20 * time.Minute).String()
	if a.string("tasks", 0, "takenUntil") != taken || a.string("tasks", 0, "status", "runs", 0, "workerId") != "w" {
		t.Error(a.body)
	}
	task := d.call(root, "GET", "/task/"+id, nil)
	if got, want := a.body, `"task":`+task.body; !strings.Contains(got, want) {
		t.Errorf("the claim's task is another one: %s", got)
	}
	c := a.credentials("tasks", 0)
	if want := fmt.Sprintf("task-client/%s/0/on/wg/w/until/%d", id, d.clock.Now().Add(20*time.Minute).Std().Unix()); c.ClientID != want {
		t.Errorf("client id %s, want %s", c.ClientID, want)
	}
	if !strings.Contains(c.Certificate, fmt.Sprintf(`"scopes":["queue:reclaim-task:%s/0","queue:resolve-task:%s/0","queue:create-artifact:%s/0","some:scope"]`, id, id, id)) {
		t.Errorf("scopes: %s", c.Certificate)
	}
	// C21, C23: with the claim's own credentials, and again.
	d.clock.Advance(time.Minute)
	r := d.call(c, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(200)
	if r.string("takenUntil") <= taken {
		t.Errorf("reclaimed until %s, not longer than %s", r.string("takenUntil"), taken)
	}
	if got, want := r.at("status"), d.status(id).at("status"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v\n%v", got, want)
	}
	next := r.credentials()
	d.kinds()
	for range 2 {
		done := d.call(next, "POST", "/task/"+id+"/runs/0/completed", nil).want(200)
		if done.string("status", "runs", 0, "resolved") == "" || done.string("status", "state") != "completed" {
			t.Error(done.body)
		}
		d.wantEvents("task-completed", "task-group-resolved")
	}
	d.report(id, 0, "failed", nil).want(409, "Run 0 of task `"+id+"` is not running or failed.")
	d.call(next, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(409, "Run 0 on task `"+id+"` is resolved or not running.")
	d.call(next, "POST", "/task/"+id+"/runs/1/completed", nil).want(403)
	d.report(id, 7, "completed", nil).want(404, "Run 7 not found on task `"+id+"`.")
	d.report(slugid.New().String(), 0, "completed", nil).want(404, "does not correspond to a task that exists")
}

func TestReport(t *testing.T) {
	d := deploy(t)
	id := d.create()
	d.report(id, 0, "completed", nil).want(409, "is not running or completed") // C26
	d.call(d.client("assume:worker-id:wg/w"), "POST", "/task/"+id+"/runs/0/completed", nil).want(403)
	d.call(root, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(409, "is resolved or not running") // F8
	d.claim("w", 1)
	d.report(id, 0, "completed", with{"success": false}).want(200, `"state":"failed"`)
	d.wantState(id, "failed", "scheduled", "failed")
	d.report(id, 0, "failed", nil).want(200)
	// A leading zero names the same run, and needs the scopes of both names.
	d.call(root, "POST", "/task/"+id+"/runs/00/failed", nil).want(200)
	d.call(d.client("queue:resolve-task:"+id+"/00"), "POST", "/task/"+id+"/runs/00/failed", nil).want(403, "queue:resolve-task:"+id+"/0")
	d.call(root, "POST", "/task/"+id+"/runs/x/failed", nil).want(400, "InvalidRequestArguments")
	d.call(root, "POST", "/task/"+id+"/runs/99999999999999999999/failed", nil).want(404)
}

func TestReportException(t *testing.T) {
	d := deploy(t)
	id, _ := d.run(with{"retries": 2})
	d.kinds()
	// C25
	a := d.exception(id, 0, "worker-shutdown").want(200)
	if a.at("status", "retriesLeft") != 1.0 || a.string("status", "runs", 0, "reasonResolved") != "worker-shutdown" {
		t.Error(a.body)
	}
	d.wantState(id, "pending", "retry", "")
	d.wantEvents("task-exception", "task-pending")
	d.exception(id, 0, "worker-shutdown").want(200)
	d.wantEvents("task-exception", "task-pending")
	d.exception(id, 0, "internal-error").want(409)
	d.claim("w2", 1)
	d.kinds()
	d.exception(id, 0, "worker-shutdown").want(200) // F12: told again, but nothing is resolved
	d.wantEvents("task-exception")
	d.exception(id, 1, "intermittent-task").want(200)
	d.wantState(id, "pending", "task-retry", "")
	d.exception(id, 0, "worker-shutdown").want(409) // two runs later
	d.claim("w3", 1)
	d.kinds()
	d.exception(id, 2, "intermittent-task").want(200)
	d.wantState(id, "exception", "task-retry", "intermittent-task")
	d.wantEvents("task-exception", "task-group-resolved")
	d.exception(id, 2, "intermittent-task").want(200)
	d.wantEvents("task-exception", "task-group-resolved")

	// C24
	id, _ = d.run()
	d.exception(id, 0, "malformed-payload").want(200)
	d.exception(id, 0, "internal-error").want(409)
	d.wantState(id, "exception", "scheduled", "malformed-payload")
	d.exception(id, 0, "claim-expired").want(400, "InputValidationError")
	d.report(id, 0, "completed", nil).want(409)
}

// C28
func TestClaimExpires(t *testing.T) {
	d := deploy(t).start()
	id, a := d.run(with{"retries": 1, "deadline": d.clock.Now().Add(24 * time.Hour).String()})
	first := a.credentials("tasks", 0)
	d.clock.Advance(15 * time.Minute)
	d.call(first, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(200)
	d.clock.Advance(10 * time.Minute) // beyond the first claim, within the second
	d.clock.Advance(10*time.Minute - time.Microsecond)
	d.wantState(id, "running", "scheduled", "")
	d.kinds()
	d.clock.Advance(time.Microsecond)
	eventually(t, "the claim expires", func() bool { return d.status(id).string("status", "state") == "pending" })
	d.wantState(id, "pending", "retry", "")
	d.wantEvents("task-exception", "task-pending")
	d.call(root, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(409)
	d.report(id, 0, "completed", nil).want(409)
	d.claim("w", 1)
	d.kinds()
	d.clock.Advance(20 * time.Minute)
	eventually(t, "the second claim expires", func() bool { return d.status(id).string("status", "state") == "exception" })
	if s := d.wantState(id, "exception", "retry", "claim-expired"); s.at("status", "retriesLeft") != 0.0 {
		t.Error(s.body)
	}
	d.wantEvents("task-exception", "task-group-resolved")
}

// C34
func TestDeadline(t *testing.T) {
	d := deploy(t).start()
	done, _ := d.run()
	d.report(done, 0, "completed", nil).want(200)
	running, _ := d.run()
	waiting := d.create()
	blocked := d.create(with{"dependencies": []string{waiting}})
	d.kinds()
	d.clock.Advance(time.Hour)
	for _, id := range []string{running, waiting, blocked} {
		eventually(t, "the deadline passes", func() bool { return d.status(id).string("status", "state") == "exception" })
	}
	d.wantState(running, "exception", "scheduled", "deadline-exceeded")
	d.wantState(waiting, "exception", "scheduled", "deadline-exceeded")
	d.wantState(blocked, "exception", "exception", "deadline-exceeded")
	d.wantState(done, "completed", "scheduled", "completed")
	for _, m := range d.messages() {
		if strings.HasSuffix(m.Exchange, "task-exception") && strings.Contains(string(m.Payload), "deadline-exceeded") && !strings.Contains(m.Key, "._._.prov.") {
			t.Errorf("a worker is named: %s", m.Key)
		}
	}
	for how, words := range map[string]string{"schedule": "scheduled past its deadline at ", "rerun": "rescheduled past its deadline of ", "cancel": "canceled past its deadline of "} {
		d.clock.Advance(time.Millisecond)
		d.call(root, "POST", "/task/"+waiting+"/"+how, nil).want(409, words)
	}
	if c := d.call(root, "GET", "/task-queues/"+testQueue+"/counts", nil); c.at("claimedTasks") != 0.0 || c.at("pendingTasks") != 0.0 {
		t.Error(c.body)
	}
}

func TestRerun(t *testing.T) {
	d := deploy(t)
	id, _ := d.run(with{"retries": 1})
	d.call(root, "POST", "/task/"+id+"/rerun", nil).want(200, `"state":"running"`)
	d.exception(id, 0, "worker-shutdown").want(200)
	d.claim("w", 1)
	d.report(id, 1, "failed", nil).want(200)
	d.kinds()
	// C31
	a := d.call(root, "POST", "/task/"+id+"/rerun", nil).want(200)
	if a.at("status", "retriesLeft") != 1.0 || a.len("status", "runs") != 3 {
		t.Error(a.body)
	}
	d.wantEvents("task-pending")
	if b := d.call(root, "POST", "/task/"+id+"/rerun", nil).want(200); b.body != a.body {
		t.Errorf("%s\n%s", a.body, b.body)
	}
	d.wantEvents("task-pending")
	d.wantState(id, "pending", "rerun", "")
	d.claim("w", 1)
	d.report(id, 2, "completed", nil).want(200)

	blocked := d.create(with{"dependencies": []string{d.create()}})
	d.call(root, "POST", "/task/"+blocked+"/rerun", nil).want(200)
	d.wantState(blocked, "pending", "rerun", "")
	for _, how := range []string{"schedule", "rerun", "cancel"} {
		d.call(root, "POST", "/task/"+slugid.New().String()+"/"+how, nil).want(404) // C30
	}
}

func TestMaximumRuns(t *testing.T) {
	d := deploy(t)
	id := d.create(with{"retries": 10})
	for n := range maxRuns {
		d.claim("w", 1)
		d.report(id, n, "failed", nil).want(200)
		if n < maxRuns-1 {
			a := d.call(root, "POST", "/task/"+id+"/rerun", nil).want(200)
			if got, want := a.at("status", "retriesLeft"), float64(min(10, maxRuns-n-2)); got != want {
				t.Fatalf("run %d: retriesLeft %v, want %v", n+1, got, want)
			}
		}
	}
	d.call(root, "POST", "/task/"+id+"/rerun", nil).want(409, "Maximum number of runs reached (50).")
	if a := d.status(id); a.len("status", "runs") != 50 || a.at("status", "runs", 49, "runId") != 49.0 {
		t.Error(a.body)
	}
}

func TestCancel(t *testing.T) {
	d := deploy(t)
	// C32
	blocked := d.create(with{"dependencies": []string{d.create()}})
	d.kinds()
	for range 2 {
		d.call(root, "POST", "/task/"+blocked+"/cancel", nil).want(200)
		d.wantState(blocked, "exception", "exception", "canceled")
		d.wantEvents("task-exception", "task-group-resolved")
	}
	for _, id := range d.claimAll() {
		d.report(id, 0, "completed", nil).want(200)
	}
	running, _ := d.run(with{"tags": with{"a": "b"}})
	d.kinds()
	d.call(root, "POST", "/task/"+running+"/cancel", nil).want(200)
	if m := d.messages(); !strings.Contains(m[0].Key, ".0.wg.w.prov.") || !strings.Contains(string(m[0].Payload), `"tags":{"a":"b"}`) {
		t.Errorf("%s %s", m[0].Key, m[0].Payload)
	}
	d.report(running, 0, "completed", nil).want(409)
	pending := d.create()
	d.call(root, "POST", "/task/"+pending+"/cancel", nil).want(200)
	done, _ := d.run()
	d.report(done, 0, "failed", nil).want(200)
	d.kinds()
	d.call(root, "POST", "/task/"+done+"/cancel", nil).want(200, `"state":"failed"`)
	d.wantEvents()
}

// claimAll claims everything and returns the ids.
func (d *deployment) claimAll() (ids []string) {
	d.t.Helper()
	a := d.claim("all", 32)
	for i := range a.len("tasks") {
		ids = append(ids, a.string("tasks", i, "status", "taskId"))
	}
	return ids
}

// C33 and the other ways to be allowed.
func TestSchedulerScopes(t *testing.T) {
	d := deploy(t)
	for _, verb := range []string{"schedule", "rerun", "cancel"} {
		id := d.create(with{"projectId": "proj/x"})
		path := "/task/" + id + "/" + verb
		d.call(nobody, "POST", path, nil).want(403, "queue:"+verb+"-task-in-project:proj/x", "assume:scheduler-id:sched/"+id)
		for _, allowed := range [][]string{
			{"queue:" + verb + "-task-in-project:proj/x"},
			{"queue:" + verb + "-task:sched/" + id + "/" + id},
			{"queue:" + verb + "-task", "assume:scheduler-id:sched/" + id},
		} {
			d.call(d.client(allowed...), "POST", path, nil).want(200)
		}
		d.call(d.client("queue:"+verb+"-task"), "POST", path, nil).want(403)
	}
}

// C22, F7 and the deprecated way to claim.
func TestClaimTask(t *testing.T) {
	d := deploy(t)
	id := d.create()
	claim := func(worker string, run int) answer {
		return d.call(root, "POST", fmt.Sprintf("/task/%s/runs/%d/claim", id, run), with{"workerGroup": "wg", "workerId": worker})
	}
	d.call(d.client("queue:claim-task:prov/type"), "POST", "/task/"+id+"/runs/0/claim", with{"workerGroup": "wg", "workerId": "w"}).want(403)
	claim("w", 1).want(404, "Run 1 not found on task")
	first := claim("w", 0).want(200)
	d.call(first.credentials(), "POST", "/task/"+id+"/runs/0/reclaim", nil).want(200)
	claim("w", 0).want(200)
	claim("other", 0).want(409, "Run 0 was already claimed by another worker.")
	if got := d.left(t); got != "" {
		t.Errorf("still pending: %s", got)
	}
	d.exception(id, 0, "worker-shutdown").want(200)
	claim("w", 0).want(409)
	until := d.clock.Now().Add(time.Hour).String()
	d.call(root, "PUT", "/provisioners/prov/worker-types/type/workers/wg/w", with{"quarantineUntil": until}).want(200, until)
	claim("w", 1).want(409, "quarantined")
	claim("v", 1).want(200)
}
