package queue

import (
	"fmt"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

func TestTaskGroup(t *testing.T) {
	d := deploy(t)
	group := slugid.New().String()
	member := with{"taskGroupId": group}
	d.call(root, "GET", "/task-group/"+group, nil).want(404, "No task-group with taskGroupId: `"+group+"`")
	d.call(root, "GET", "/task-group/"+group+"/list", nil).want(404) // C36
	a := d.create(member)
	b := d.create(member, with{"expires": d.clock.Now().Add(24 * time.Hour).String()})
	g := d.call(root, "GET", "/task-group/"+group, nil).want(200)
	if g.string("expires") != "2027-05-04T05:02:01.000Z" || g.string("schedulerId") != "sched" || g.at("sealed") != nil {
		t.Error(g.body)
	}
	// C35
	other := d.definition(member, with{"schedulerId": "other"})
	d.call(root, "PUT", "/task/"+slugid.New().String(), other).want(409, "contains tasks with a schedulerId other\nthan `other`.")

	// C36
	one := d.call(root, "GET", "/task-group/"+group+"/list?limit=1", nil).want(200)
	two := d.call(root, "GET", "/task-group/"+group+"/list?limit=1&continuationToken="+one.string("continuationToken"), nil).want(200)
	if one.string("tasks", 0, "status", "taskId") != a || two.string("tasks", 0, "status", "taskId") != b || two.at("continuationToken") != nil {
		t.Errorf("%s\n%s", one.body, two.body)
	}
	d.call(root, "GET", "/task-group/"+group+"/list?limit=2", nil).want(200)
	if none := d.call(root, "GET", "/task-group/"+group+"/list?limit=0", nil).want(200); none.len("tasks") != 0 || none.at("continuationToken") != nil {
		t.Error(none.body) // F3
	}
	// A23
	// C37
	d.claimAll()
	d.kinds()
	d.report(a, 0, "completed", nil).want(200)
	d.wantEvents("task-completed")
	d.report(b, 0, "failed", nil).want(200)
	d.wantEvents("task-failed", "task-group-resolved")
	// A task more makes it active again; a rerun does not.
	d.call(root, "POST", "/task/"+b+"/rerun", nil).want(200)
	d.claim("w", 1)
	d.kinds()
	d.report(b, 1, "completed", nil).want(200)
	d.wantEvents("task-completed", "task-group-resolved")
	c := d.create(member)
	d.call(root, "POST", "/task/"+b+"/rerun", nil).want(200)
	d.claimAll()
	d.kinds()
	d.report(b, 2, "completed", nil).want(200)
	d.wantEvents("task-completed")
	d.report(c, 0, "completed", nil).want(200)
	d.wantEvents("task-completed", "task-group-resolved")
}

// C35: a group whose time is over belongs to nobody.
func TestExpiredGroup(t *testing.T) {
	d := deploy(t)
	group := slugid.New().String()
	brief := with{"taskGroupId": group, "expires": d.clock.Now().Add(time.Hour).String()}
	old := d.create(brief)
	d.call(root, "POST", "/task-group/"+group+"/seal", nil).want(200)
	d.clock.Advance(2*time.Hour + time.Millisecond)
	if err := d.expireNow(); err != nil {
		t.Fatal(err)
	}
	d.wantState(old, "exception", "scheduled", "deadline-exceeded")
	d.create(with{"taskGroupId": group, "schedulerId": "other"})
	if g := d.call(root, "GET", "/task-group/"+group, nil).want(200); g.string("schedulerId") != "other" || g.at("sealed") != nil {
		t.Error(g.body)
	}
}

// C38
func TestSealTaskGroup(t *testing.T) {
	d := deploy(t)
	group := slugid.New().String()
	id := slugid.New().String()
	body := d.definition(with{"taskGroupId": group})
	d.call(root, "POST", "/task-group/"+group+"/seal", nil).want(404)
	d.call(root, "PUT", "/task/"+id, body).want(200)
	d.call(d.client("queue:seal-task-group:other/"+group), "POST", "/task-group/"+group+"/seal", nil).want(403, "queue:seal-task-group:sched/"+group)
	d.kinds()
	first := d.call(d.client("queue:seal-task-group:sched/"+group), "POST", "/task-group/"+group+"/seal", nil).want(200, `"sealed"`)
	d.clock.Advance(time.Second)
	if again := d.call(root, "POST", "/task-group/"+group+"/seal", nil).want(200); again.body != first.body {
		t.Errorf("%s\n%s", first.body, again.body)
	}
	d.wantEvents("task-group-sealed", "task-group-sealed")
	d.call(root, "PUT", "/task/"+slugid.New().String(), body).want(409, "Task group `"+group+"` is sealed and does not accept new tasks.")
	d.call(root, "PUT", "/task/"+id, body).want(409, "is sealed")
}

// C39, F14
func TestCancelTaskGroup(t *testing.T) {
	d := deploy(t)
	group := slugid.New().String()
	member := with{"taskGroupId": group, "tags": with{"a": "b"}}
	path := "/task-group/" + group + "/cancel"
	d.call(root, "POST", path, nil).want(404)
	n := groupChunk + 10
	ids := make([]string, n)
	for i := range ids {
		ids[i] = d.create(member)
	}
	d.create(member, with{"dependencies": []string{ids[0]}})
	d.claim("w", 1)
	d.report(ids[0], 0, "completed", nil).want(200)
	d.call(nobody, "POST", path, nil).want(409, "sealed") // before the scopes
	d.call(root, "POST", "/task-group/"+group+"/seal", nil).want(200)
	d.call(nobody, "POST", path, nil).want(403, "queue:cancel-task-group:sched/"+group)
	d.kinds()
	a := d.call(root, "POST", path, nil).want(200)
	if a.at("cancelledCount") != float64(n) || a.at("taskGroupSize") != float64(n+1) || a.len("taskIds") != n {
		t.Error(a.body)
	}
	exceptions, resolved := 0, 0
	for _, m := range d.messages() {
		switch m.Exchange {
		case exchangePrefix + "task-exception":
			exceptions++
		case exchangePrefix + "task-group-resolved":
			resolved++
		}
	}
	if exceptions != n || resolved != 1 {
		t.Errorf("%d task-exception, %d task-group-resolved", exceptions, resolved)
	}
	if b := d.call(root, "POST", path, nil).want(200); b.at("cancelledCount") != 0.0 || b.at("taskGroupSize") != float64(n+1) {
		t.Error(b.body)
	}
}

// C40, F9
func TestChangePriority(t *testing.T) {
	d := deploy(t)
	change := func(id, p string) answer {
		return d.call(root, "POST", "/task/"+id+"/priority", with{"newPriority": p})
	}
	first := d.create(with{"routes": []string{"r"}})
	d.clock.Advance(time.Second)
	second := d.create(with{"priority": "high"})
	d.clock.Advance(time.Second)
	third := d.create(with{"priority": "high"})
	d.kinds()
	d.call(d.client("queue:change-task-priority:x"), "POST", "/task/"+first+"/priority", with{"newPriority": "high"}).want(403)
	d.call(d.client("queue:change-task-priority-in-queue:prov/type"), "POST", "/task/"+first+"/priority", with{"newPriority": "high"}).
		want(200, `"priority":"high"`)
	m := d.messages()
	if len(m) != 1 || m[0].Key != "primary."+first+"._._._.prov.type.sched."+first+"._" || len(m[0].CC) != 1 {
		t.Errorf("%+v", m)
	}
	change(first, "high").want(200)
	d.wantEvents()
	d.call(root, "GET", "/task/"+first, nil).want(200, `"priority":"high"`)
	change(third, "highest").want(200)
	change(slugid.New().String(), "high").want(404)
	change(third, "normal").want(400)
	if got := d.claimAll(); fmt.Sprint(got) != fmt.Sprint([]string{third, first, second}) {
		t.Errorf("%v", got)
	}
	change(third, "low").want(200) // while it runs
	d.report(third, 0, "failed", nil).want(200)
	change(third, "high").want(409, "is already resolved and cannot be reprioritized.")
	d.call(root, "POST", "/task/"+third+"/rerun", nil).want(200, `"priority":"low"`)
	change(third, "high").want(409)
	d.clock.Advance(2 * time.Hour)
	change(first, "low").want(409, "past its deadline")
}

func TestChangeGroupPriority(t *testing.T) {
	d := deploy(t)
	group := slugid.New().String()
	member := with{"taskGroupId": group}
	n := groupChunk + 5
	for range n {
		d.create(member)
	}
	already := d.create(member, with{"priority": "medium"})
	path := "/task-group/" + group + "/priority"
	d.call(d.client("queue:change-task-group-priority:x/"+group), "POST", path, with{"newPriority": "medium"}).want(403)
	d.kinds()
	a := d.call(root, "POST", path, with{"newPriority": "medium"}).want(200)
	seen := map[any]bool{}
	for i := range a.len("taskIds") {
		seen[a.at("taskIds", i)] = true
	}
	if a.at("tasksAffected") != float64(n) || len(seen) != n || seen[already] {
		t.Errorf("%d affected, %d ids", a.at("tasksAffected"), len(seen))
	}
	d.wantEvents("task-group-priority-changed")
	if a := d.call(root, "POST", path, with{"newPriority": "medium"}).want(200); a.at("tasksAffected") != 0.0 || a.len("taskIds") != 0 {
		t.Error(a.body)
	}
	d.call(root, "POST", "/task-group/"+slugid.New().String()+"/priority", with{"newPriority": "medium"}).want(404)
}
