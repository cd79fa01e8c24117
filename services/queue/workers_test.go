package queue

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

// C41 to C44
func TestQueueReads(t *testing.T) {
	d := deploy(t)
	d.call(root, "GET", "/pending/1/1", nil).want(400, "InvalidRequestArguments")
	d.call(root, "GET", "/pending/no/such", nil).want(200, `"pendingTasks":0`)
	d.call(root, "GET", "/task-queues/no/such/counts", nil).want(200, `"pendingTasks":0`, `"claimedTasks":0`)
	d.call(root, "GET", "/task-queues/no/such/pending", nil).want(200, `{"tasks":[]}`)
	d.call(d.client("queue:pending-count:prov/type"), "GET", "/task-queues/prov/type/counts", nil).want(403, "queue:claimed-count:prov/type")
	var ids []string
	for i := range 10 {
		if i%3 == 0 {
			d.clock.Advance(time.Second)
		}
		ids = append(ids, d.create(with{"priority": []string{"low", "high"}[i%2]}))
	}
	list := func(kind string) (got []string) {
		token := ""
		for {
			a := d.call(root, "GET", "/task-queues/prov/type/"+kind+"?limit=6"+token, nil).want(200)
			for i := range a.len("tasks") {
				id := a.string("tasks", i, "taskId")
				got = append(got, id)
				if fmt.Sprint(a.at("tasks", i, "task")) != fmt.Sprint(d.call(root, "GET", "/task/"+id, nil).at()) {
					t.Errorf("another definition: %s", a.body)
				}
			}
			if a.string("continuationToken") == "" {
				return got
			}
			token = "&continuationToken=" + a.string("continuationToken")
		}
	}
	if got := list("pending"); fmt.Sprint(got) != fmt.Sprint(ids) {
		t.Errorf("%v\n%v", got, ids)
	}
	claimed := d.claimAll()
	if got := list("claimed"); len(got) != 10 {
		t.Errorf("%v\n%v", got, claimed)
	}
	d.call(root, "POST", "/task/"+ids[0]+"/runs/0/reclaim", nil).want(200)
	if c := d.call(root, "GET", "/task-queues/prov/type/counts", nil).want(200); c.at("claimedTasks") != 10.0 || c.at("pendingTasks") != 0.0 {
		t.Error(c.body)
	}

	both := with{"taskIds": []string{ids[0], slugid.New().String(), "no slugid", ids[1], ids[0]}}
	a := d.call(root, "POST", "/tasks", both).want(200)
	if a.len("tasks") != 2 || a.string("tasks", 0, "taskId") != ids[0] || fmt.Sprint(a.at("tasks", 1, "task")) != fmt.Sprint(d.call(root, "GET", "/task/"+ids[1], nil).at()) {
		t.Error(a.body)
	}
	a = d.call(root, "POST", "/tasks/status?limit=1", both).want(200)
	b := d.call(root, "POST", "/tasks/status?limit=1&continuationToken="+a.string("continuationToken"), both).want(200)
	if a.string("statuses", 0, "taskId") != ids[0] || b.string("statuses", 0, "taskId") != ids[1] {
		t.Errorf("%s\n%s", a.body, b.body)
	}
	d.call(d.client("queue:status:"+ids[0]), "POST", "/tasks/status", both).want(403, "queue:status:"+ids[1])
	d.call(root, "POST", "/tasks", "{}").want(200, `{"tasks":[]}`)
	d.call(root, "POST", "/tasks/status?limit=0", both).want(200, `{"statuses":[]}`)
}

// C45 to C49
func TestWorkers(t *testing.T) {
	d := deploy(t)
	const workers = "/provisioners/prov/worker-types/type/workers"
	worker := workers + "/wg/w"
	until := func(h int) string { return d.clock.Now().Add(time.Duration(h) * time.Hour).String() }
	d.call(root, "GET", worker, nil).want(404, "`w`", "`wg`", "`type`", "`prov`")
	d.call(root, "PUT", worker, with{"quarantineUntil": until(1)}).want(404)
	for _, path := range []string{"/provisioners/prov", "/provisioners/prov/worker-types/type", "/task-queues/prov%2Ftype"} {
		d.call(root, "GET", path, nil).want(404)
	}
	var ids []string
	for range 30 {
		id, _ := d.run()
		ids = append(ids, id)
	}
	a := d.call(root, "GET", worker, nil).want(200)
	if a.len("recentTasks") != 20 || a.string("recentTasks", 0, "taskId") != ids[10] || a.string("recentTasks", 19, "taskId") != ids[29] ||
		a.string("firstClaim") != d.clock.Now().String() || a.string("expires") != until(24) {
		t.Error(a.body)
	}
	d.exception(ids[0], 0, "worker-shutdown").want(200)
	d.claim("w", 1)
	if a := d.call(root, "GET", worker, nil); a.string("recentTasks", 19, "taskId") != ids[0] || a.at("recentTasks", 19, "runId") != 1.0 {
		t.Error(a.body)
	}
	for _, path := range []string{"/provisioners/prov", "/provisioners/prov/worker-types/type", "/task-queues/prov%2Ftype"} {
		d.call(root, "GET", path, nil).want(200, until(24), `"stability":"experimental"`)
	}
	d.call(root, "GET", "/provisioners", nil).want(200, `"provisionerId":"prov"`)
	d.call(root, "GET", "/provisioners/prov/worker-types", nil).want(200, `"taskQueueId":"prov/type"`)
	d.call(root, "GET", "/provisioners/pro/worker-types", nil).want(200, `{"workerTypes":[]}`)
	d.call(root, "GET", "/task-queues", nil).want(200, `"taskQueueId":"prov/type"`)
	if l := d.call(root, "GET", workers, nil).want(200); l.string("workers", 0, "latestTask", "taskId") != ids[0] || l.at("workers", 0, "quarantineUntil") != nil {
		t.Error(l.body)
	}

	// quarantine
	d.call(root, "GET", workers+"?quarantined=true", nil).want(200, `{"workers":[]}`)
	d.call(root, "GET", workers+"?quarantined=maybe", nil).want(400)
	if q := d.call(root, "PUT", worker, with{"quarantineUntil": until(48), "quarantineInfo": "noisy"}).want(200); q.string("quarantineUntil") != until(48) {
		t.Error(q.body) // C47
	}
	d.call(d.client("queue:quarantine-worker:prov/type/wg/other"), "PUT", worker, with{"quarantineUntil": until(1)}).want(403)
	d.call(root, "GET", workers+"?quarantined=true", nil).want(200, until(48))
	d.call(root, "GET", workers+"?quarantined=false", nil).want(200, `{"workers":[]}`)

	// expired, but in quarantine
	d.clock.Advance(30 * time.Hour)
	d.call(root, "GET", worker, nil).want(200)
	if l := d.call(root, "GET", workers, nil).want(200); l.len("workers") != 1 {
		t.Error(l.body)
	}
	d.call(root, "GET", "/task-queues/prov%2Ftype", nil).want(404)
	d.call(root, "GET", "/task-queues", nil).want(200, `{"taskQueues":[]}`)
	d.clock.Advance(30 * time.Hour)
	d.call(root, "GET", worker, nil).want(404)
	d.call(root, "GET", workers, nil).want(200, `{"workers":[]}`)
}

// C48
func TestDeclareWorker(t *testing.T) {
	d := deploy(t)
	path := "/provisioners/prov/worker-types/type/wg/w"
	until := func(h int) string { return d.clock.Now().Add(time.Duration(h) * time.Hour).String() }
	d.call(root, "PUT", path, with{"quarantineUntil": until(1)}).want(400, "InputValidationError")
	d.call(root, "PUT", path, "{}").want(400, "InputValidationError")
	d.call(d.client("queue:declare-worker:prov/type/wg/w#other"), "PUT", path, with{"expires": until(1)}).want(403, "queue:declare-worker:prov/type/wg/w#expires")
	d.call(d.client("queue:declare-worker:prov/type/wg/w#expires"), "PUT", path, with{"expires": until(48)}).want(200, until(48))
	d.call(root, "GET", "/provisioners/prov/worker-types/type", nil).want(200, until(48))
	d.run()
	if a := d.call(root, "PUT", path, with{"expires": until(1)}).want(200, until(48)); a.len("recentTasks") != 1 {
		t.Error(a.body)
	}
}

// F6: pages of everything that is listed.
func TestWorkerPages(t *testing.T) {
	d := deploy(t)
	for i := range 5 {
		d.call(root, "PUT", fmt.Sprintf("/provisioners/p%d/worker-types/t/wg/w", i), with{"expires": d.clock.Now().Add(time.Hour).String()}).want(200)
		d.call(root, "PUT", fmt.Sprintf("/provisioners/p/worker-types/t%d/wg/w", i), with{"expires": d.clock.Now().Add(time.Hour).String()}).want(200)
		d.call(root, "PUT", fmt.Sprintf("/provisioners/p/worker-types/t0/g%d/w", i), with{"expires": d.clock.Now().Add(time.Hour).String()}).want(200)
	}
	for _, c := range []struct{ path, list, name, want string }{
		{"/provisioners", "provisioners", "provisionerId", "p p0 p1 p2 p3 p4"},
		{"/task-queues", "taskQueues", "taskQueueId", "p/t0 p/t1 p/t2 p/t3 p/t4 p0/t p1/t p2/t p3/t p4/t"},
		{"/provisioners/p/worker-types", "workerTypes", "workerType", "t0 t1 t2 t3 t4"},
		{"/provisioners/p/worker-types/t0/workers", "workers", "workerGroup", "g0 g1 g2 g3 g4 wg"},
	} {
		var got []string
		token := ""
		for {
			a := d.call(root, "GET", c.path+"?limit=2"+token, nil).want(200)
			for i := range a.len(c.list) {
				got = append(got, a.string(c.list, i, c.name))
			}
			if a.string("continuationToken") == "" {
				break
			}
			token = "&continuationToken=" + a.string("continuationToken")
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v", c.path, got)
		}
	}
}
