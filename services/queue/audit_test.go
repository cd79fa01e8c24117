package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// Facts of the specification that no other test is about.

// F3: a page of nothing is empty and has no token, whatever is listed.
func TestLimitZero(t *testing.T) {
	d := deploy(t)
	id, _ := d.run()
	d.artifact(id, 0, "public/x", with{"storageType": "error", "reason": "file-missing-on-worker", "message": "m"}).want(200)
	d.create(with{"dependencies": []string{id}})
	d.create()
	for _, c := range []struct{ path, list string }{
		{"/provisioners", "provisioners"}, {"/provisioners/prov/worker-types", "workerTypes"}, {"/task-queues", "taskQueues"},
		{"/provisioners/prov/worker-types/type/workers", "workers"}, {"/task-group/" + id + "/list", "tasks"},
		{"/task/" + id + "/dependents", "tasks"}, {"/task-queues/prov/type/pending", "tasks"}, {"/task-queues/prov/type/claimed", "tasks"},
		{"/task/" + id + "/artifacts", "artifacts"}, {"/task/" + id + "/runs/0/artifacts", "artifacts"},
	} {
		if a := d.call(root, "GET", c.path, nil).want(200); a.len(c.list) != 1 {
			t.Errorf("%s: %s", c.path, a.body)
		}
		if a := d.call(root, "GET", c.path+"?limit=0", nil).want(200); a.len(c.list) != 0 || a.at(c.list) == nil || a.at("continuationToken") != nil {
			t.Errorf("%s: %s", c.path, a.body)
		}
	}
	for _, path := range []string{"/tasks", "/tasks/status"} {
		d.call(root, "POST", path+"?limit=0", with{"taskIds": []string{id}}).want(200, ":[]}")
	}
}

// C22: claimTask makes the task queue known for five days, and not the worker;
// past the deadline it refuses.
func TestClaimTaskSeesTheQueue(t *testing.T) {
	d := deploy(t)
	id := d.create()
	claim := func() answer {
		return d.call(root, "POST", "/task/"+id+"/runs/0/claim", with{"workerGroup": "wg", "workerId": "w"})
	}
	claim().want(200)
	d.call(root, "GET", "/task-queues/prov%2Ftype", nil).want(200, d.clock.Now().Add(5*24*time.Hour).String())
	worker := "/provisioners/prov/worker-types/type/workers/wg/w"
	d.call(root, "GET", worker, nil).want(404)
	// Once it is known, its claims are recorded.
	other := d.create()
	d.claim("w", 1)
	if a := d.call(root, "GET", worker, nil).want(200); a.len("recentTasks") != 1 || a.string("recentTasks", 0, "taskId") != other {
		t.Error(a.body)
	}
	d.clock.Advance(time.Hour)
	claim().want(409, "can't be claimed past its deadline at ")
	d.call(root, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(409, "can't be reclaimed past its deadline of ")
}

// A worker in quarantine gets no work, but goes on with what it has; all that
// was said of it is kept.
func TestQuarantinedWorkerGoesOn(t *testing.T) {
	d := deploy(t)
	id, _ := d.run()
	path := "/provisioners/prov/worker-types/type/workers/wg/w"
	for _, body := range []with{{"quarantineInfo": "noisy"}, {}} {
		body["quarantineUntil"] = d.clock.Now().Add(48 * time.Hour).String()
		d.call(root, "PUT", path, body).want(200)
	}
	d.call(root, "PUT", path, with{"quarantineUntil": d.clock.Now().String(), "quarantineInfo": strings.Repeat("x", 4001)}).want(400, "InputValidationError")
	w, err := d.workerRecord("w")
	if err != nil || strings.Count(w.details, `"clientId":"root"`) != 2 || !strings.Contains(w.details, `"quarantineInfo":"noisy"`) ||
		!strings.Contains(w.details, `"quarantineInfo":"[unspecified]"`) {
		t.Errorf("%+v (%v)", w, err)
	}
	d.call(root, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(200)
	d.report(id, 0, "completed", nil).want(200)
	// A time in the past lets it go.
	d.call(root, "PUT", path, with{"quarantineUntil": d.clock.Now().Add(-time.Second).String()}).want(200)
	d.run()
}

func (d *deployment) workerRecord(id string) (w *workerRecord, err error) {
	err = d.store.Read(d.t.Context(), func(tx *store.Tx) error {
		w, err = loadWorker(tx, workerKey{testQueue, workerName{"wg", id}})
		return err
	})
	return w, err
}

// Whoever claims or reclaims is known for a day from then on, also when it was
// declared for less, and never for less than it was.
func TestWorkersLiveOn(t *testing.T) {
	d := deploy(t)
	path := "/provisioners/prov/worker-types/type/workers/wg/w"
	d.call(root, "PUT", "/provisioners/prov/worker-types/type/wg/w", with{"expires": d.clock.Now().Add(time.Minute).String()}).want(200)
	id, _ := d.run(with{"deadline": d.clock.Now().Add(5 * time.Hour).String()})
	d.call(root, "GET", path, nil).want(200, d.clock.Now().Add(24*time.Hour).String())
	d.clock.Advance(31 * time.Minute)
	d.call(root, "POST", "/task/"+id+"/runs/0/reclaim", nil).want(200)
	if a := d.call(root, "GET", path, nil).want(200, d.clock.Now().Add(24*time.Hour).String()); a.string("lastDateActive") != d.clock.Now().String() {
		t.Error(a.body)
	}
}

// Satisfaction is for good: a dependency that is run again, and fails, releases
// nobody and holds nobody back; one that is rerun and completes releases.
func TestSatisfiedForGood(t *testing.T) {
	d := deploy(t)
	a, b := d.create(), d.create()
	c := d.create(with{"dependencies": []string{a, b}})
	d.claimAll()
	d.report(a, 0, "completed", nil).want(200)
	d.report(b, 0, "failed", nil).want(200)
	for _, id := range []string{a, b} {
		d.call(root, "POST", "/task/"+id+"/rerun", nil).want(200)
	}
	d.claimAll()
	d.report(a, 1, "failed", nil).want(200)
	d.wantState(c, "unscheduled", "", "")
	d.report(b, 1, "completed", nil).want(200)
	d.wantState(c, "pending", "scheduled", "")
}

// C42, C44: definitions and statuses of many tasks, in pages that are exact.
func TestManyPages(t *testing.T) {
	d := deploy(t)
	var ids []string
	for range 10 {
		ids = append(ids, d.create())
	}
	for path, list := range map[string]string{"/tasks": "tasks", "/tasks/status": "statuses"} {
		first := d.call(root, "POST", path+"?limit=6", with{"taskIds": ids}).want(200)
		second := d.call(root, "POST", path+"?limit=6&continuationToken="+first.string("continuationToken"), with{"taskIds": ids}).want(200)
		if first.len(list) != 6 || second.len(list) != 4 || second.at("continuationToken") != nil {
			t.Errorf("%s\n%s", first.body, second.body)
		}
		if all := d.call(root, "POST", path+"?limit=10", with{"taskIds": ids}).want(200); all.at("continuationToken") != nil { // A22
			t.Error(all.body)
		}
		d.call(nobody, "POST", path, with{"taskIds": ids[:1]}).want(403)
	}
}

// C34, and the order in which the published checks are made: what is unknown is
// told before what is not allowed.
func TestUnknownBeforeForbidden(t *testing.T) {
	d := deploy(t)
	id := slugid.New().String()
	for _, path := range []string{"/task/%s/schedule", "/task/%s/rerun", "/task/%s/cancel", "/task-group/%s/seal", "/task-group/%s/cancel"} {
		d.call(nobody, "POST", fmt.Sprintf(path, id), nil).want(404, "ResourceNotFound")
	}
	for _, path := range []string{"/task/%s/priority", "/task-group/%s/priority"} {
		d.call(nobody, "POST", fmt.Sprintf(path, id), with{"newPriority": "high"}).want(404, "ResourceNotFound")
	}
	d.call(nobody, "POST", "/task/"+id+"/runs/0/claim", with{"workerGroup": "wg", "workerId": "w"}).want(404, "ResourceNotFound")
	// Of a run the URL alone decides.
	d.call(nobody, "POST", "/task/"+id+"/runs/0/completed", nil).want(403)
	d.call(nobody, "GET", "/task/"+id+"/status", nil).want(403)
}
