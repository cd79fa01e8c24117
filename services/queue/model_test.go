package queue

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"

	"pgregory.net/rapid"
)

// The queue against a small model of it: random calls, time that passes,
// restarts. After each step the states agree, each transition has exactly its
// events in order, and the counters are what a recount gives.

type modelRun struct {
	state, created, resolved string
	worker                   string
	scheduled, until         clock.Time
}

type modelTask struct {
	id          string
	number      int // order of creation
	priority    priority
	retries     int
	left        int
	group       string
	deadline    clock.Time
	deps        []*modelTask
	satisfied   map[*modelTask]bool
	allResolved bool
	ever        bool
	runs        []modelRun
}

func (m *modelTask) state() string {
	if len(m.runs) == 0 {
		return "unscheduled"
	}
	return m.runs[len(m.runs)-1].state
}

func (m *modelTask) last() *modelRun { return &m.runs[len(m.runs)-1] }

func (m *modelTask) open() bool {
	s := m.state()
	return s == "unscheduled" || s == "pending" || s == "running"
}

type model struct {
	t      *rapid.T
	d      *deployment
	tasks  []*modelTask
	groups []string
	want   []string // events
}

func (m *model) event(kind string, task *modelTask, run int) {
	m.want = append(m.want, fmt.Sprintf("%s %s/%d", kind, task.id, run))
}

func (m *model) schedule(task *modelTask, why string) {
	task.runs = append(task.runs, modelRun{state: "pending", created: why, scheduled: m.d.clock.Now()})
	m.event("task-pending", task, len(task.runs)-1)
}

// resolve ends the last run, with a retry if there is one for the reason.
func (m *model) resolve(task *modelTask, state, why string) {
	r, n := task.last(), len(task.runs)-1
	r.state, r.resolved = state, why
	retry := map[string]string{"worker-shutdown": "retry", "claim-expired": "retry", "intermittent-task": "task-retry"}[why]
	kind := map[string]string{"completed": "task-completed", "failed": "task-failed", "exception": "task-exception"}[state]
	m.event(kind, task, n)
	if retry != "" && task.left > 0 {
		task.left--
		m.schedule(task, retry)
		return
	}
	m.settled(task)
}

// settled is what follows a resolution: dependents, then (at the end of the
// transaction) the group.
func (m *model) settled(task *modelTask) {
	task.ever = true
	for _, other := range m.tasks {
		if !slices.Contains(other.deps, task) || other.satisfied[task] || task.state() != "completed" && !other.allResolved {
			continue
		}
		other.satisfied[task] = true
		if len(other.satisfied) == len(other.deps) && other.state() == "unscheduled" && other.deadline >= m.d.clock.Now() {
			m.schedule(other, "scheduled")
		}
	}
}

func (m *model) groupResolved(task *modelTask) {
	for _, other := range m.tasks {
		if other.group == task.group && !other.ever {
			return
		}
	}
	m.want = append(m.want, "task-group-resolved "+task.group)
}

func (m *model) end(task *modelTask, why string) {
	if len(task.runs) == 0 {
		task.runs = append(task.runs, modelRun{state: "exception", created: "exception", resolved: why})
		m.event("task-exception", task, 0)
		m.settled(task)
		return
	}
	m.resolve(task, "exception", why)
}

func (m *model) pick() *modelTask {
	if len(m.tasks) == 0 {
		m.t.Skip("no tasks yet")
	}
	return rapid.SampledFrom(m.tasks).Draw(m.t, "task")
}

func (m *model) post(path string, body any) answer {
	return m.d.call(root, "POST", path, body)
}

// expect checks the status code and that the reply is what a read gives.
func (m *model) expect(a answer, ok bool) {
	want := 200
	if !ok {
		want = 409
	}
	if a.status != want {
		m.t.Fatalf("%s: status %d, want %d: %s", a.method, a.status, want, a.body)
	}
}

func (m *model) create(t *rapid.T) {
	now := m.d.clock.Now()
	task := &modelTask{id: slugid.New().String(), number: len(m.tasks), priority: priority(rapid.IntRange(1, 7).Draw(t, "priority")),
		retries: rapid.IntRange(0, 2).Draw(t, "retries"), deadline: now.Add(time.Duration(rapid.IntRange(5, 120).Draw(t, "minutes")) * time.Minute),
		satisfied: map[*modelTask]bool{}, allResolved: rapid.Bool().Draw(t, "allResolved")}
	task.left = task.retries
	task.group = task.id
	if rapid.Bool().Draw(t, "grouped") {
		task.group = rapid.SampledFrom(m.groups).Draw(t, "group")
	}
	var deps []string
	if len(m.tasks) > 0 {
		for _, dep := range rapid.SliceOfNDistinct(rapid.SampledFrom(m.tasks), 0, min(3, len(m.tasks)), func(x *modelTask) string { return x.id }).Draw(t, "deps") {
			task.deps, deps = append(task.deps, dep), append(deps, dep.id)
			if s := dep.state(); s == "completed" || task.allResolved && !dep.open() {
				task.satisfied[dep] = true
			}
		}
	}
	changes := with{"priority": task.priority.String(), "retries": task.retries, "taskGroupId": task.group,
		"deadline": task.deadline.String(), "requires": map[bool]string{true: "all-resolved", false: "all-completed"}[task.allResolved]}
	if deps != nil {
		changes["dependencies"] = deps
	}
	body := m.d.definition(changes)
	m.expect(m.d.call(root, "PUT", "/task/"+task.id, body), true)
	m.tasks = append(m.tasks, task)
	m.event("task-defined", task, -1)
	if len(task.satisfied) == len(task.deps) {
		m.schedule(task, "scheduled")
	}
	if rapid.IntRange(0, 4).Draw(t, "repeat") == 0 {
		m.expect(m.d.call(root, "PUT", "/task/"+task.id, body), true)
		m.event("task-defined", task, -1)
		if task.state() == "pending" {
			m.event("task-pending", task, 0)
		}
	}
}

// claim takes the best runs of all that are pending.
func (m *model) claim(t *rapid.T) {
	var order []*modelTask
	for _, task := range m.tasks {
		if task.state() == "pending" && task.deadline > m.d.clock.Now() {
			order = append(order, task)
		}
	}
	if len(order) == 0 {
		t.Skip("nothing is pending")
	}
	slices.SortStableFunc(order, func(a, b *modelTask) int {
		if a.priority != b.priority {
			return int(b.priority) - int(a.priority)
		}
		if d := a.last().scheduled.Sub(b.last().scheduled); d != 0 {
			return int(d)
		}
		return a.number - b.number
	})
	n := rapid.IntRange(1, 4).Draw(t, "n")
	worker := fmt.Sprint("w", rapid.IntRange(0, 2).Draw(t, "worker"))
	a := m.post("/claim-work/"+testQueue, with{"workerGroup": "wg", "workerId": worker, "tasks": n})
	m.expect(a, true)
	if got, want := a.len("tasks"), min(n, len(order)); got != want {
		t.Fatalf("%d claims, want %d", got, want)
	}
	for i, task := range order[:min(n, len(order))] {
		if got := a.string("tasks", i, "status", "taskId"); got != task.id {
			t.Fatalf("claim %d is %s, want %s", i, got, task.id)
		}
		r := task.last()
		r.state, r.worker, r.until = "running", worker, m.d.clock.Now().Add(20*time.Minute)
		m.event("task-running", task, len(task.runs)-1)
	}
}

func (m *model) reclaim(t *rapid.T) {
	task := m.pick()
	if len(task.runs) == 0 {
		t.Skip("no runs")
	}
	ok := task.state() == "running" && task.deadline > m.d.clock.Now()
	m.expect(m.post(fmt.Sprintf("/task/%s/runs/%d/reclaim", task.id, len(task.runs)-1), nil), ok)
	if ok {
		task.last().until = m.d.clock.Now().Add(20 * time.Minute)
	}
}

func (m *model) report(t *rapid.T) {
	task := m.pick()
	if len(task.runs) == 0 {
		t.Skip("no runs")
	}
	n := rapid.IntRange(0, len(task.runs)-1).Draw(t, "run")
	how := rapid.SampledFrom([]string{"completed", "failed", "worker-shutdown", "intermittent-task", "internal-error"}).Draw(t, "how")
	path := fmt.Sprintf("/task/%s/runs/%d/", task.id, n)
	run, last := &task.runs[n], n == len(task.runs)-1
	if how == "completed" || how == "failed" {
		a := m.post(path+how, nil)
		switch {
		case last && run.state == "running":
			m.expect(a, true)
			m.resolve(task, how, how)
			m.groupResolved(task)
		case last && run.state == how:
			m.expect(a, true)
			m.event("task-"+how, task, n)
			m.settled(task)
			m.groupResolved(task)
		default:
			m.expect(a, false)
		}
		return
	}
	a := m.post(path+"exception", with{"reason": how})
	switch {
	case last && run.state == "running":
		m.expect(a, true)
		before := len(task.runs)
		m.resolve(task, "exception", how)
		if len(task.runs) == before {
			m.groupResolved(task)
		}
	case run.state == "exception" && run.resolved == how && n >= len(task.runs)-2:
		m.expect(a, true)
		m.event("task-exception", task, n)
		created := task.last().created
		if last {
			m.settled(task)
			m.groupResolved(task)
		} else if task.state() == "pending" && (created == "retry" || created == "task-retry") {
			m.event("task-pending", task, n+1)
		}
	default:
		m.expect(a, false)
	}
}

func (m *model) cancel(*rapid.T) {
	task := m.pick()
	ok := task.deadline >= m.d.clock.Now()
	m.expect(m.post("/task/"+task.id+"/cancel", nil), ok)
	switch {
	case !ok:
	case task.open():
		m.end(task, "canceled")
		m.groupResolved(task)
	case task.last().resolved == "canceled":
		m.event("task-exception", task, len(task.runs)-1)
		m.settled(task)
		m.groupResolved(task)
	}
}

func (m *model) rerun(*rapid.T) {
	task := m.pick()
	ok := task.deadline >= m.d.clock.Now() && (len(task.runs) < maxRuns || task.open())
	m.expect(m.post("/task/"+task.id+"/rerun", nil), ok)
	switch {
	case !ok || task.state() == "running":
	case task.state() == "pending":
		m.event("task-pending", task, len(task.runs)-1)
	default:
		task.left = min(task.retries, maxRuns-len(task.runs)-1)
		m.schedule(task, "rerun")
	}
}

func (m *model) force(*rapid.T) {
	task := m.pick()
	ok := task.deadline >= m.d.clock.Now()
	m.expect(m.post("/task/"+task.id+"/schedule", nil), ok)
	if ok && task.state() == "unscheduled" {
		m.schedule(task, "scheduled")
	}
}

func (m *model) reprioritize(t *rapid.T) {
	task := m.pick()
	p := priority(rapid.IntRange(1, 7).Draw(t, "priority"))
	ok := task.deadline > m.d.clock.Now() && !task.ever
	m.expect(m.post("/task/"+task.id+"/priority", with{"newPriority": p.String()}), ok)
	if ok && task.priority != p {
		task.priority = p
		m.event("task-priority-changed", task, -1)
	}
}

// pass lets time pass to the next thing that is due, or a little, and handles
// what is due in one go, as the loop does.
func (m *model) pass(t *rapid.T) {
	m.d.clock.Advance(time.Duration(rapid.IntRange(1, 12*60).Draw(t, "seconds")) * time.Second)
	now := m.d.clock.Now()
	var due []*modelTask
	at := func(task *modelTask) clock.Time {
		if task.state() == "running" {
			return min(task.last().until, task.deadline)
		}
		return task.deadline
	}
	for _, task := range m.tasks {
		if task.open() && at(task) <= now {
			due = append(due, task)
		}
	}
	// Tasks that are due at one time may be handled in any order, as they are
	// in the index; only sets of events are compared then.
	slices.SortStableFunc(due, func(a, b *modelTask) int { return int(at(a) - at(b)) })
	var groups []*modelTask
	for _, task := range due {
		if task.deadline <= now {
			m.end(task, "deadline-exceeded")
			groups = append(groups, task)
		} else {
			before := len(task.runs)
			m.resolve(task, "exception", "claim-expired")
			if len(task.runs) == before {
				groups = append(groups, task)
			}
		}
	}
	seen := map[string]bool{}
	for _, task := range groups {
		if !seen[task.group] {
			seen[task.group] = true
			m.groupResolved(task)
		}
	}
	if err := m.d.expireNow(); err != nil {
		t.Fatal(err)
	}
}

func (m *model) restart(*rapid.T) {
	read := m.d.read
	m.d.store.Close() // nothing was drained or told before
	m.d.store = nil
	c, dir, tb := m.d.clock, m.d.dir, m.d.t
	m.d = deployIn(tb, dir, c)
	m.d.read = read
}

// check compares everything that can be seen with the model.
func (m *model) check(t *rapid.T) {
	var got []string
	for _, e := range m.d.messages() {
		parts := strings.Split(e.Key, ".")
		kind := strings.TrimPrefix(e.Exchange, exchangePrefix)
		if kind == "task-group-resolved" {
			got = append(got, kind+" "+parts[1])
			continue
		}
		run := parts[2]
		if run == "_" {
			run = "-1"
		}
		got = append(got, kind+" "+parts[1]+"/"+run)
	}
	if !slices.Equal(got, m.want) {
		a, b := slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(m.want))
		if !slices.Equal(a, b) || !strings.Contains(strings.Join(got, " "), "task-exception") {
			t.Fatalf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(m.want, "\n"))
		}
	}
	m.want = nil
	for _, task := range m.tasks {
		a := m.d.status(task.id)
		if a.string("status", "state") != task.state() || a.len("status", "runs") != len(task.runs) ||
			a.at("status", "retriesLeft") != float64(task.left) || a.string("status", "priority") != task.priority.String() {
			t.Fatalf("want %+v: %s", task, a.body)
		}
		for i, r := range task.runs {
			at := func(name string) string { return a.string("status", "runs", i, name) }
			if at("state") != r.state || at("reasonCreated") != r.created || at("reasonResolved") != r.resolved || at("workerId") != r.worker {
				t.Fatalf("run %d: want %+v: %s", i, r, a.body)
			}
		}
	}
	m.d.checkCounters(m.d.t)
	if m.d.t.Failed() {
		t.Fatal("the counters are wrong")
	}
}

func TestModel(t *testing.T) {
	// Fewer runs than rapid's default unless the command line says otherwise.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("25"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		d := deployIn(t, t.TempDir(), testClock())
		m := &model{t: rt, d: d, groups: []string{slugid.New().String(), slugid.New().String()}}
		defer func() {
			m.d.store.Close()
			m.d.store = nil
		}()
		step := func(f func(*rapid.T)) func(*rapid.T) {
			return func(t *rapid.T) {
				m.t = t
				f(t)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": step(m.create), "create2": step(m.create), "claim": step(m.claim), "claim2": step(m.claim),
			"reclaim": step(m.reclaim), "report": step(m.report), "report2": step(m.report), "cancel": step(m.cancel),
			"rerun": step(m.rerun), "schedule": step(m.force), "priority": step(m.reprioritize), "pass": step(m.pass),
			"restart": step(m.restart), "": m.check,
		})
	})
}
