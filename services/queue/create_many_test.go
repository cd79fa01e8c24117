package queue

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// manyTasks is a call of createTasks being put together.
type manyTasks struct {
	d     *deployment
	tasks []with
}

func (m *manyTasks) add(id string, changes ...map[string]any) string {
	if id == "" {
		id = slugid.New().String()
	}
	m.tasks = append(m.tasks, with{"taskId": id, "task": m.d.definition(changes...)})
	return id
}

func (m *manyTasks) create() answer {
	m.d.t.Helper()
	return m.d.call(root, "POST", "/tasks/create", with{"tasks": m.tasks})
}

func (a answer) wantItem(i int, id, state, code string, texts ...string) {
	a.t.Helper()
	item := fmt.Sprint(a.string("tasks", i, "taskId"), " ", a.string("tasks", i, "status", "state"), " ", a.string("tasks", i, "error", "code"))
	if want := id + " " + state + " " + code; item != want {
		a.t.Errorf("answer %d is %q, want %q: %s", i, item, want, a.string("tasks", i, "error", "message"))
	}
	for _, text := range texts {
		if got := a.string("tasks", i, "error", "message"); !strings.Contains(got, text) {
			a.t.Errorf("answer %d lacks %q: %s", i, text, got)
		}
	}
}

func TestCreateTasks(t *testing.T) {
	d := deploy(t)
	m := manyTasks{d: d}
	one := m.add("")
	bad := m.add("", with{"priority": "urgent"})
	late := m.add("", with{"deadline": d.clock.Now().Add(-time.Second).String()})
	last := m.add("", with{"retries": 1})
	a := m.create().want(200)
	if a.len("tasks") != 4 {
		t.Fatal(a.body)
	}
	a.wantItem(0, one, "pending", "")
	a.wantItem(1, bad, "", "InputValidationError", "Schema Validation Failed!", "data/priority must be equal to one of")
	// The words are createTask's.
	single := d.call(root, "PUT", "/task/"+late, d.definition(with{"deadline": d.clock.Now().Add(-time.Second).String()})).want(400)
	a.wantItem(2, late, "", "InputError")
	if got := a.string("tasks", 2, "error", "message"); !strings.HasPrefix(single.string("message"), got+"\n\n---") {
		t.Errorf("%q is not what createTask says: %q", got, single.string("message"))
	}
	a.wantItem(3, last, "pending", "")
	d.wantEvents("task-defined", "task-pending", "task-defined", "task-pending")
	d.call(root, "GET", "/task/"+bad, nil).want(404)

	// Each answer has what the status method says.
	if got, want := mustJSON(t, a.at("tasks", 3, "status")), mustJSON(t, d.status(last).at("status")); got != want {
		t.Errorf("%s, want %s", got, want)
	}

	// Repeated, it gives the same, and tells it again.
	m.create().want(200).wantItem(0, one, "pending", "")
	d.wantEvents("task-defined", "task-pending", "task-defined", "task-pending")
	m.tasks[0] = with{"taskId": one, "task": d.definition(with{"retries": 2})}
	a = m.create().want(200)
	a.wantItem(0, one, "", "RequestConflict", "taskId `"+one+"` already used by another task.")
	a.wantItem(3, last, "pending", "")
	d.checkCounters(t)

	// In the order of the call they are claimed.
	got := d.claim("w", 2)
	if got.string("tasks", 0, "status", "taskId") != one || got.string("tasks", 1, "status", "taskId") != last {
		t.Error(got.body)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCreateTasksRefusals(t *testing.T) {
	d := deploy(t)
	for what, body := range map[string]string{
		"no list":         `{}`,
		"no definition":   `{"tasks":[{"taskId":"` + slugid.New().String() + `"}]}`,
		"not a slugid":    `{"tasks":[{"taskId":"x","task":{}}]}`,
		"something else":  `{"tasks":[{"taskId":"` + slugid.New().String() + `","task":{},"more":1}]}`,
		"not an object":   `{"tasks":[{"taskId":"` + slugid.New().String() + `","task":[]}]}`,
		"more than 1,000": `{"tasks":[` + strings.TrimSuffix(strings.Repeat(`{"taskId":"`+slugid.New().String()+`","task":{}},`, 1001), ",") + `]}`,
	} {
		if a := d.call(root, "POST", "/tasks/create", body); a.status != 400 || a.string("code") != "InputValidationError" {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	id := slugid.New().String()
	all := `{"tasks":[{"task":{},"taskId":"` + id + `"}]}`
	d.call(root, "POST", "/tasks/create", all).want(200).wantItem(0, id, "", "InputValidationError", "must have required property 'created'")

	if a := d.call(root, "POST", "/tasks/create", `{"tasks":[]}`).want(200); a.body != `{"tasks":[]}` {
		t.Error(a.body)
	}
	// Credentials that are bad refuse the call, also when each task is refused anyway.
	bad := root
	bad.AccessToken = "not-the-root-token-0123456789abcdef"
	d.call(bad, "POST", "/tasks/create", all).want(401)
}

func TestCreateTasksAuthorizesEach(t *testing.T) {
	d := deploy(t)
	m := manyTasks{d: d}
	ids := []string{m.add(""), m.add("", with{"scopes": []string{"secret:a"}}), m.add("", with{"projectId": "other"}), m.add("", with{"routes": []string{"r"}}),
		m.add("", with{"priority": "high"}), m.add("")}
	as := d.client("queue:create-task:low:prov/type", "queue:create-task:project:none", "queue:scheduler-id:sched")
	body := with{"tasks": m.tasks}
	a := d.call(as, "POST", "/tasks/create", body).want(200)
	a.wantItem(0, ids[0], "pending", "")
	a.wantItem(1, ids[1], "", "InsufficientScopes", "Client ID "+as.ClientID+" does not have sufficient scopes", "\nsecret:a\n")
	a.wantItem(2, ids[2], "", "InsufficientScopes", "queue:create-task:project:other")
	a.wantItem(3, ids[3], "", "InsufficientScopes", "queue:route:r")
	a.wantItem(4, ids[4], "", "InsufficientScopes", "queue:create-task:highest:prov/type")
	a.wantItem(5, ids[5], "pending", "")
	single := d.call(as, "PUT", "/task/"+ids[4], m.tasks[4]["task"]).want(403)
	// Up to the name of the method.
	if got, _, _ := strings.Cut(a.string("tasks", 4, "error", "message"), "\n\nThe method explainScopes"); !strings.HasPrefix(single.string("message"), got) {
		t.Errorf("%q is not what createTask says: %q", got, single.string("message"))
	}
	a = d.call(nobody, "POST", "/tasks/create", body).want(200)
	for i, id := range ids {
		a.wantItem(i, id, "", "InsufficientScopes", "This request requires Taskcluster credentials that satisfy")
	}
	d.wantEvents("task-defined", "task-pending", "task-defined", "task-pending")
}

func TestCreateTasksDependencies(t *testing.T) {
	d := deploy(t)
	m := manyTasks{d: d}
	on := func(ids ...string) with { return with{"dependencies": ids} }
	done, _ := d.run()
	d.report(done, 0, "completed", nil).want(200)
	d.kinds()

	a, b, c := slugid.New().String(), slugid.New().String(), slugid.New().String()
	m.add(c, on(b, a, done))
	m.add(b, on(a))
	m.add(a, on(done))
	self := m.add("", with{})
	m.tasks[3]["task"].(map[string]any)["dependencies"] = []string{self}
	r := m.create().want(200)
	r.wantItem(0, c, "unscheduled", "")
	r.wantItem(1, b, "unscheduled", "")
	r.wantItem(2, a, "pending", "")
	r.wantItem(3, self, "unscheduled", "")
	d.wantEvents("task-defined", "task-pending", "task-defined", "task-defined", "task-defined")
	if dependents := d.call(root, "GET", "/task/"+a+"/dependents", nil).want(200); dependents.len("tasks") != 2 {
		t.Error(dependents.body)
	}
	d.claimAll()
	d.report(a, 0, "completed", nil).want(200)
	d.wantState(b, "pending", "scheduled", "")
	d.wantState(c, "unscheduled", "", "")
	d.claimAll()
	d.report(b, 0, "completed", nil).want(200)
	d.wantState(c, "pending", "scheduled", "")
	m.create().want(200).wantItem(1, b, "completed", "") // a repetition

	// What is refused takes along what needs it, and says so.
	m = manyTasks{d: d}
	missing := slugid.New().String()
	x, y, z := m.add("", with{"retries": -1}), slugid.New().String(), slugid.New().String()
	m.add(z, on(y))
	m.add(y, on(x))
	u := m.add("", on(missing))
	v := m.add("", on(u, a))
	ok := m.add("")
	r = m.create().want(200)
	r.wantItem(0, x, "", "InputValidationError")
	r.wantItem(1, z, "", "InputError", "references tasks that this call could not create: "+y)
	r.wantItem(2, y, "", "InputError", "references tasks that this call could not create: "+x)
	r.wantItem(3, u, "", "InputError", "references non-existing tasks: "+missing)
	r.wantItem(4, v, "", "InputError", "could not create: "+u)
	r.wantItem(5, ok, "pending", "")

	// Circles are named; who leans on one is refused as well.
	m = manyTasks{d: d}
	p, q, s := slugid.New().String(), slugid.New().String(), slugid.New().String()
	m.add(p, on(q))
	leans := m.add("", on(p))
	m.add(q, on(s))
	m.add(s, on(p, s))
	free := m.add("", on(a))
	r = m.create().want(200)
	for i, id := range map[int]string{0: p, 2: q, 3: s} {
		r.wantItem(i, id, "", "InputError", "task.dependencies form a circle of 3 tasks of this call", p, q, s)
	}
	r.wantItem(1, leans, "", "InputError", "could not create: "+p)
	r.wantItem(4, free, "pending", "")
	d.checkCounters(t)
}

// Tasks with the same id are like calls one after the other.
func TestCreateTasksTwice(t *testing.T) {
	d := deploy(t)
	m := manyTasks{d: d}
	id := m.add("")
	m.add(id)
	m.add(id, with{"retries": 3})
	needs := m.add("", with{"dependencies": []string{id}})
	a := m.create().want(200)
	a.wantItem(0, id, "pending", "")
	a.wantItem(1, id, "pending", "")
	a.wantItem(2, id, "", "RequestConflict")
	a.wantItem(3, needs, "unscheduled", "")
	d.checkCounters(t)
}

// A long chain, given backwards, is no deep recursion's end.
func TestCreateTasksChain(t *testing.T) {
	d := deploy(t)
	m := manyTasks{d: d}
	before := slugid.New().String()
	m.add(before)
	for range 999 {
		before = m.add("", with{"dependencies": []string{before}})
	}
	for i, j := 0, len(m.tasks)-1; i < j; i, j = i+1, j-1 {
		m.tasks[i], m.tasks[j] = m.tasks[j], m.tasks[i]
	}
	a := m.create().want(200)
	a.wantItem(999, m.tasks[999]["taskId"].(string), "pending", "")
	a.wantItem(0, before, "unscheduled", "")
}

func TestCreateTasksAudit(t *testing.T) {
	d := deploy(t)
	m := manyTasks{d: d}
	one, two := m.add(""), m.add("")
	m.add("", with{"retries": -1})
	m.create().want(200)
	var text []byte
	err := d.store.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row(store.SQL(`SELECT entries FROM api_audit ORDER BY id DESC LIMIT 1`)).Scan(&text)
	})
	if err != nil || !strings.Contains(string(text), `"method":"createTasks","params":{"taskIds":"`+one+" "+two+`"}`) {
		t.Errorf("%v %s", err, text)
	}
}
