package queue

import (
	"strings"
	"testing"
	"time"

	"taskcluster/internal/slugid"
)

func TestCreateTask(t *testing.T) {
	d := deploy(t)
	id := slugid.New().String()
	body := d.definition(with{"tags": with{"a": "b"}, "routes": []string{"index.x", "checks"}, "payload": `x`})
	body["payload"] = with{"n": 1}
	a := d.call(root, "PUT", "/task/"+id, body).want(200)
	if a.string("status", "state") != "pending" || a.string("status", "runs", 0, "reasonCreated") != "scheduled" {
		t.Fatal(a.body)
	}
	if got, want := a.string("status", "expires"), "2027-05-04T04:02:01.000Z"; got != want {
		t.Errorf("expires %s, want one calendar year after the deadline, %s", got, want)
	}
	// C7
	m := d.messages()
	if len(m) != 2 || !strings.Contains(string(m[0].Payload), `"state":"unscheduled","runs":[]`) {
		t.Fatalf("%v", m)
	}
	if want := `{"status":` + strings.TrimSuffix(strings.TrimPrefix(a.body, `{"status":`), "}") + `,"task":{"tags":{"a":"b"}},"runId":0,"version":1}`; string(m[1].Payload) != want {
		t.Errorf("task-pending\n%s, want\n%s", m[1].Payload, want)
	}
	if m[0].Key != "primary."+id+"._._._.prov.type.sched."+id+"._" || strings.Join(m[1].CC, " ") != "route.index.x route.checks" {
		t.Errorf("%q %q", m[0].Key, m[1].CC)
	}
	def := d.call(root, "GET", "/task/"+id, nil).want(200, `"priority":"lowest"`, `"projectId":"none"`, `"requires":"all-completed"`)
	if def.string("taskGroupId") != id || def.at("retries") != 5.0 || def.string("taskQueueId") != testQueue {
		t.Error(def.body)
	}
}

// The definition keeps numbers and strings as the caller wrote them.
func TestDefinitionKept(t *testing.T) {
	d := deploy(t)
	id := slugid.New().String()
	now, deadline := d.clock.Now().String(), d.clock.Now().Add(time.Hour).String()
	payload := `{"z":1.50,"a":[9007199254740993,1e3],"s":"\u00e9\ud83d\ude00<>&"}`
	body := `{"payload":` + payload + `,"extra":{"k":[]},"taskQueueId":"prov/type","created":"` + now + `","deadline":"` + deadline +
		`","metadata":{"source":"https://x","owner":"o","name":"n","description":""}}`
	d.call(root, "PUT", "/task/"+id, body).want(200)
	a := d.call(root, "GET", "/task/"+id, nil).want(200, `"payload":`+payload, `"extra":{"k":[]}`)
	order := []string{"provisionerId", "workerType", "taskQueueId", "schedulerId", "projectId", "taskGroupId", "dependencies",
		"requires", "routes", "priority", "retries", "created", "deadline", "expires", "scopes", "payload", "metadata", "tags", "extra"}
	last := -1
	for _, name := range order {
		i := strings.Index(a.body, `"`+name+`":`)
		if i <= last {
			t.Errorf("%s is not in its place: %s", name, a.body)
		}
		last = i
	}
	d.call(root, "PUT", "/task/"+id, body).want(200)
}

func TestCreateTaskRefusals(t *testing.T) {
	d := deploy(t)
	now := d.clock.Now()
	at := func(diff time.Duration) string { return now.Add(diff).String() }
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		changes with
		status  int
		text    string
	}{
		"C3 created after deadline":  {with{"created": at(14 * time.Minute), "deadline": at(13 * time.Minute)}, 400, "`deadline` cannot be later than `created`"},
		"C3 expires before deadline": {with{"expires": at(time.Minute)}, 400, "`expires` cannot be before `deadline`"},
		"C3 deadline too far":        {with{"deadline": at(5*day + 16*time.Minute)}, 400, "`deadline` cannot be more than 5 days into the future"},
		"deadline far enough":        {with{"deadline": at(5*day + 15*time.Minute)}, 200, ""},
		"created past":               {with{"created": at(-16 * time.Minute)}, 400, "`created` cannot be in the past (max 15min drift)"},
		"created future":             {with{"created": at(16 * time.Minute)}, 400, "`created` cannot be in the future (max 15min drift)"},
		"deadline past":              {with{"created": at(-10 * time.Minute), "deadline": at(-time.Minute)}, 400, "`deadline` cannot be in the past"},
		"C4 stars":                   {with{"scopes": []string{"a**"}}, 400, "scopes must not end with `**`"},
		"route of 250 bytes":         {with{"routes": []string{"a", strings.Repeat("é", 125)}}, 400, "task.routes[1] has 250 bytes"},
		"route of 249 bytes":         {with{"routes": []string{strings.Repeat("é", 124) + "a"}}, 200, ""},
		"C8 normal":                  {with{"priority": "normal"}, 400, "InputValidationError"},
		"C9 queue only":              {with{"taskQueueId": testQueue, "provisionerId": nil, "workerType": nil}, 200, ""},
		"C9 all three":               {with{"taskQueueId": testQueue}, 200, ""},
		"C9 mismatch":                {with{"taskQueueId": "prov/other"}, 400, `taskQueueId must match "provisionerId/workerType"`},
		"C9 provisioner and queue":   {with{"taskQueueId": "x/y", "workerType": nil}, 200, ""},
		"no queue":                   {with{"workerType": nil}, 400, "InputError"},
		"C2 ssh":                     {with{"metadata": with{"name": "n", "description": "d", "owner": "o", "source": "ssh://git@github.com:x/y"}}, 200, ""},
		"C2 git":                     {with{"metadata": with{"name": "n", "description": "d", "owner": "o", "source": "git@github.com:x/y"}}, 200, ""},
		"retries":                    {with{"retries": 50}, 400, "InputValidationError"},
		"F25 leap second":            {with{"created": "2026-05-04T03:02:60Z"}, 400, "created"},
		"F25 no zone":                {with{"created": "2026-05-04T03:02:01"}, 200, ""},
		"F18 NUL":                    {with{"payload": with{"x": "\x00"}}, 400, ""},
	} {
		t.Run(name, func(t *testing.T) {
			id := slugid.New().String()
			d.call(root, "PUT", "/task/"+id, d.definition(c.changes)).want(c.status, c.text)
			if c.status != 200 {
				d.call(root, "GET", "/task/"+id, nil).want(404, "Are you sure this task has already been submitted?")
			}
		})
	}
	d.call(root, "PUT", "/task/not-a-slugid", d.definition()).want(400, "InvalidRequestArguments")
}

// C1, C8, C10
func TestCreateTaskScopes(t *testing.T) {
	d := deploy(t)
	body := d.definition(with{"schedulerId": nil})
	base := []string{"queue:create-task:project:none", "queue:scheduler-id:-"}
	put := func(body with, scope ...string) answer {
		return d.call(d.client(append(base, scope...)...), "PUT", "/task/"+slugid.New().String(), body)
	}
	put(body, "queue:create-task:lowest:prov/type").want(200)
	put(body, "queue:create-task:highest:prov/type").want(200)
	put(body, "queue:create-task:lowest:prov/other").want(403, "queue:create-task:lowest:prov/type", "queue:create-task:highest:prov/type")
	high := d.definition(with{"schedulerId": nil, "priority": "high"})
	put(high, "queue:create-task:medium:prov/type").want(403)
	put(high, "queue:create-task:very-high:prov/type").want(200)
	// The scopes come before the dates and the stars.
	bad := d.definition(with{"schedulerId": nil, "scopes": []string{"x:**"}, "deadline": d.clock.Now().Add(-time.Hour).String(), "routes": []string{"r"}})
	put(bad, "queue:create-task:lowest:prov/type").want(403, "x:**", "queue:route:r")
	d.call(nobody, "PUT", "/task/"+slugid.New().String(), body).want(403, "This request requires Taskcluster credentials")
	wrong := root
	wrong.AccessToken += "x"
	d.call(wrong, "PUT", "/task/"+slugid.New().String(), body).want(401)
}

// C5, C6 and the order of a task's life: repetitions.
func TestCreateTaskRepeated(t *testing.T) {
	d := deploy(t)
	id := slugid.New().String()
	body := d.definition(with{"priority": "high", "payload": with{"a": 1, "b": []int{2}}})
	d.call(root, "PUT", "/task/"+id, body).want(200)
	d.call(root, "PUT", "/task/"+id, body).want(200)
	again := d.definition(with{"priority": "high", "payload": with{"b": []int{2}, "a": 1}})
	again["created"] = strings.Replace(again["created"].(string), ".000Z", ".000987Z", 1)
	d.call(root, "PUT", "/task/"+id, again).want(200)
	d.wantEvents("task-defined", "task-pending", "task-defined", "task-pending", "task-defined", "task-pending")
	for _, change := range []with{
		{"workerType": "other"}, {"payload": with{"a": 1}}, {"priority": "low"}, {"retries": 4},
		{"deadline": d.clock.Now().Add(2 * time.Hour).String()}, {"scopes": []string{"x"}},
	} {
		d.call(root, "PUT", "/task/"+id, d.definition(body, change)).want(409, "already used by another task", "faulty idempotency")
	}
	d.claim("w", 1)
	d.kinds()
	d.call(root, "PUT", "/task/"+id, body).want(200, `"state":"running"`)
	d.wantEvents("task-defined")
	if c := d.call(root, "GET", "/task-queues/"+testQueue+"/counts", nil).want(200); c.at("claimedTasks") != 1.0 || c.at("pendingTasks") != 0.0 {
		t.Error(c.body)
	}
}

// 64 callers create the same 8 tasks at once: one of each.
func TestCreateTaskConcurrently(t *testing.T) {
	d := deploy(t)
	body := d.definition()
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = slugid.New().String()
	}
	got := make(chan answer)
	for i := range 64 {
		go func() { got <- d.call(root, "PUT", "/task/"+ids[i%8], body) }()
	}
	for range 64 {
		(<-got).want(200)
	}
	if c := d.call(root, "GET", "/pending/"+testQueue, nil).want(200); c.at("pendingTasks") != 8.0 {
		t.Error(c.body)
	}
}
