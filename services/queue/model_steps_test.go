package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"

	"pgregory.net/rapid"
)

// pick draws what a task shall be like, and then a task of these, a late one
// more often than an early one: else most steps meet a task for which they mean
// nothing, and none goes through many of them.
func (m *model) pick() *modelTask {
	kinds := map[string][]*modelTask{}
	for _, task := range m.tasks {
		kind := task.state()
		if len(task.runs) > 1 {
			kind += " again"
		}
		kinds[kind] = append(kinds[kind], task)
	}
	if len(kinds) == 0 {
		m.t.Skip("no tasks yet")
	}
	some := kinds[rapid.SampledFrom(slices.Sorted(maps.Keys(kinds))).Draw(m.t, "kind")]
	if late := some[max(0, len(some)-3):]; rapid.IntRange(0, 3).Draw(m.t, "late") > 0 {
		some = late
	}
	return rapid.SampledFrom(some).Draw(m.t, "task")
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

// draft is a new task and its body, with dependencies on any of some tasks. ok is
// false when its group takes none; otherwise the group counts it in.
func (m *model) draft(t *rapid.T, among []*modelTask) (task *modelTask, body with, ok bool) {
	now := m.now()
	m.created++
	task = &modelTask{id: slugid.New().String(), number: m.created, satisfied: map[*modelTask]bool{},
		queue:    rapid.SampledFrom([]string{testQueue, "prov/other"}).Draw(t, "queue"),
		priority: priority(rapid.IntRange(1, 7).Draw(t, "priority")),
		retries:  rapid.IntRange(0, 2).Draw(t, "retries"),
		// No two deadlines are the same, nor ever the present.
		deadline:    now.Add(time.Duration(rapid.IntRange(5, 120).Draw(t, "minutes"))*time.Minute + time.Duration(m.created%999+1)*time.Millisecond),
		allResolved: rapid.Bool().Draw(t, "allResolved")}
	task.left, task.group = task.retries, task.id
	task.expires = task.deadline.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "hours")) * time.Hour)
	if rapid.IntRange(0, 2).Draw(t, "grouped") > 0 {
		task.group = rapid.SampledFrom(m.shared).Draw(t, "group")
	}
	var known []*modelTask
	for _, dep := range among {
		if dep.expires >= task.deadline {
			known = append(known, dep)
		}
	}
	deps := []string{}
	if len(known) > 0 {
		for _, dep := range rapid.SliceOfNDistinct(rapid.SampledFrom(known), 0, min(3, len(known)), func(x *modelTask) string { return x.id }).Draw(t, "deps") {
			task.deps, deps = append(task.deps, dep), append(deps, dep.id)
		}
	}
	provisioner, workerType := splitQueue(task.queue)
	extra := with{}
	if rapid.IntRange(0, 1).Draw(t, "keyed") == 0 {
		task.key, task.limit = rapid.SampledFrom([]string{"a", "a", "b"}).Draw(t, "key"), rapid.IntRange(1, 2).Draw(t, "limit")
		extra["concurrency"] = with{"key": task.key, "limit": task.limit}
	}
	body = m.d.definition(with{"extra": extra, "provisionerId": provisioner, "workerType": workerType, "priority": task.priority.String(),
		"retries": task.retries, "taskGroupId": task.group, "deadline": task.deadline.String(), "expires": task.expires.String(),
		"requires": map[bool]string{true: "all-resolved", false: "all-completed"}[task.allResolved], "dependencies": deps})
	g := m.groups[task.group]
	if g == nil || g.expires < now {
		g = &modelGroup{}
		m.groups[task.group] = g
	}
	if g.sealed {
		return task, body, false
	}
	g.expires = max(g.expires, task.expires.Add(time.Hour))
	return task, body, true
}

// add is what follows when a task was accepted.
func (m *model) add(task *modelTask) {
	for _, dep := range task.deps {
		if s := dep.state(); s == "completed" || task.allResolved && !dep.open() {
			task.satisfied[dep] = true
		}
	}
	m.tasks = append(m.tasks, task)
	m.event("task-defined", task, -1)
	if len(task.satisfied) == len(task.deps) {
		m.schedule(task, "scheduled")
	}
}

func (m *model) create(t *rapid.T) {
	task, body, ok := m.draft(t, m.tasks)
	m.expect(m.d.call(root, "PUT", "/task/"+task.id, body), ok)
	if !ok {
		return
	}
	m.add(task)
	if rapid.IntRange(0, 4).Draw(t, "repeat") == 0 {
		m.expect(m.d.call(root, "PUT", "/task/"+task.id, body), true)
		m.event("task-defined", task, -1)
		if task.state() == "pending" {
			m.event("task-pending", task, 0)
		}
	}
}

// createMany creates tasks in one call, some of which depend on earlier ones of it.
func (m *model) createMany(t *rapid.T) {
	var list []with
	var tasks []*modelTask
	var accepted []bool
	for range rapid.IntRange(1, 5).Draw(t, "n") {
		among := m.tasks
		for i, task := range tasks {
			if accepted[i] {
				among = append(among[:len(among):len(among)], task)
			}
		}
		task, body, ok := m.draft(t, among)
		list, tasks, accepted = append(list, with{"taskId": task.id, "task": body}), append(tasks, task), append(accepted, ok)
	}
	a := m.post("/tasks/create", with{"tasks": list})
	m.expect(a, true)
	for i, task := range tasks {
		if got := a.at("tasks", i, "status") != nil; got != accepted[i] || a.string("tasks", i, "taskId") != task.id {
			t.Fatalf("task %d: %s", i, a.body)
		}
		if accepted[i] {
			m.add(task)
		}
	}
}

func (m *model) worker(t *rapid.T) string {
	return fmt.Sprint("w", rapid.IntRange(0, 1).Draw(t, "worker"))
}

// admits tells whether the limit of a task allows one more live run of its key.
func (m *model) admits(task *modelTask) bool {
	live := 0
	for _, other := range m.tasks {
		if other.key == task.key && other.state() == "running" {
			live++
		}
	}
	return task.key == "" || live < task.limit
}

// claim takes the best runs of all that are pending, apart from those whose
// concurrency key has no room.
func (m *model) claim(t *rapid.T) {
	queue := rapid.SampledFrom([]string{testQueue, "prov/other"}).Draw(t, "queue")
	var order []*modelTask
	for _, task := range m.tasks {
		if task.queue == queue && task.state() == "pending" && task.deadline > m.now() {
			order = append(order, task)
		}
	}
	if !slices.ContainsFunc(order, m.admits) {
		t.Skip("nothing is pending")
	}
	slices.SortStableFunc(order, func(a, b *modelTask) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.last().scheduled, b.last().scheduled), cmp.Compare(a.number, b.number))
	})
	n := rapid.SampledFrom([]int{1, 2, 4, 32}).Draw(t, "n")
	worker := m.worker(t)
	body := with{"workerGroup": "wg", "workerId": worker, "tasks": n}
	if m.quarantine[queue+worker] > m.now() { // it waits in vain until it hangs up
		ctx, hangUp := context.WithTimeout(context.Background(), 5*time.Millisecond)
		defer hangUp()
		m.d.callContext(ctx, root, "POST", "/claim-work/"+queue, body)
		return
	}
	a := m.post("/claim-work/"+queue, body)
	m.expect(a, true)
	var got, want []string
	for i := range a.len("tasks") {
		got = append(got, a.string("tasks", i, "status", "taskId"))
	}
	for _, task := range order {
		if len(want) < n && m.admits(task) {
			want = append(want, task.id)
			m.claimed(task, worker)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("claimed %v, want %v", got, want)
	}
}

func (m *model) claimed(task *modelTask, worker string) {
	r := task.last()
	r.state, r.worker, r.until = "running", worker, m.now().Add(20*time.Minute)
	m.event("task-running", task, len(task.runs)-1)
}

// claimTask claims a run by its name; again for the worker that has it.
func (m *model) claimTask(t *rapid.T) {
	task := m.pick()
	if len(task.runs) == 0 {
		t.Skip("no runs")
	}
	worker := m.worker(t)
	if other := map[string]string{"w0": "w1", "w1": "w0"}[worker]; m.quarantine[task.queue+other] > m.now() && rapid.Bool().Draw(t, "in quarantine") {
		worker = other
	}
	mine := task.state() == "running" && task.last().worker == worker
	ok := task.deadline > m.now() && m.quarantine[task.queue+worker] <= m.now() && (task.state() == "pending" && m.admits(task) || mine)
	m.expect(m.post(fmt.Sprintf("/task/%s/runs/%d/claim", task.id, len(task.runs)-1), with{"workerGroup": "wg", "workerId": worker}), ok)
	switch {
	case ok && mine:
		m.event("task-running", task, len(task.runs)-1)
	case ok:
		m.claimed(task, worker)
	}
}

// setQuarantine begins or ends the quarantine of a worker, if there is such.
func (m *model) setQuarantine(t *rapid.T) {
	queue := rapid.SampledFrom([]string{testQueue, "prov/other"}).Draw(t, "queue")
	worker, until := m.worker(t), m.now().Add(time.Duration(rapid.IntRange(-20, 60).Draw(t, "minutes"))*time.Minute)
	provisioner, workerType := splitQueue(queue)
	path := "/provisioners/" + provisioner + "/worker-types/" + workerType + "/workers/wg/" + worker
	there := m.d.call(root, "GET", path, nil).status == 200
	a := m.d.call(root, "PUT", path, with{"quarantineUntil": until.String()})
	if there && a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	if a.status == 200 {
		m.quarantine[queue+worker] = until
	}
	if m.other != nil && a.status == 200 {
		k := workerKey{queue, workerName{"wg", worker}}
		eventually(m.d.t, "the other node hears of it", func() bool {
			return m.other.queue.workers.quarantined(k, m.now()) == (until > m.now())
		})
	}
}

// swap goes on with the other node.
func (m *model) swap(t *rapid.T) {
	if m.other == nil {
		t.Skip("there is no other")
	}
	m.other.read = m.d.read
	m.d, m.other = m.other, m.d
}

func (m *model) reclaim(t *rapid.T) {
	task := m.pick()
	if len(task.runs) == 0 {
		t.Skip("no runs")
	}
	ok := task.state() == "running" && task.deadline > m.now()
	m.expect(m.post(fmt.Sprintf("/task/%s/runs/%d/reclaim", task.id, len(task.runs)-1), nil), ok)
	if ok {
		task.last().until = m.now().Add(20 * time.Minute)
	}
}

func (m *model) report(t *rapid.T) {
	task := m.pick()
	if len(task.runs) == 0 {
		t.Skip("no runs")
	}
	n := len(task.runs) - 1
	switch rapid.IntRange(0, 3).Draw(t, "earlier") {
	case 0:
		n = rapid.IntRange(0, n).Draw(t, "run")
	case 1: // what a worker does whose report was not answered
		if n > 0 && task.state() == "pending" {
			n--
		}
	}
	ways := []string{"completed", "failed", "worker-shutdown", "intermittent-task", "internal-error"}
	how := rapid.SampledFrom(ways).Draw(t, "how")
	path := fmt.Sprintf("/task/%s/runs/%d/", task.id, n)
	run, last := &task.runs[n], n == len(task.runs)-1
	if slices.Contains(ways, run.resolved) && rapid.Bool().Draw(t, "repeat") {
		how = run.resolved
	}
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
	ok := task.deadline >= m.now()
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
	ok := task.deadline >= m.now() && (len(task.runs) < maxRuns || task.open())
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
	ok := task.deadline >= m.now()
	m.expect(m.post("/task/"+task.id+"/schedule", nil), ok)
	if ok && task.state() == "unscheduled" {
		m.schedule(task, "scheduled")
	}
}

func (m *model) reprioritize(t *rapid.T) {
	task := m.pick()
	p := priority(rapid.IntRange(1, 7).Draw(t, "priority"))
	ok := task.deadline > m.now() && !task.ever
	m.expect(m.post("/task/"+task.id+"/priority", with{"newPriority": p.String()}), ok)
	if ok && task.priority != p {
		task.priority = p
		m.event("task-priority-changed", task, -1)
	}
}

// group picks a group that tasks share, which may not be there.
func (m *model) group(t *rapid.T) (id string, g *modelGroup) {
	id = rapid.SampledFrom(m.shared).Draw(t, "group")
	if g = m.groups[id]; g == nil {
		t.Skip("no such group")
	}
	return id, g
}

func (m *model) reprioritizeGroup(t *rapid.T) {
	id, _ := m.group(t)
	p := priority(rapid.IntRange(1, 7).Draw(t, "priority"))
	var changed []any
	for _, task := range m.members(id) {
		if !task.ever && task.priority != p && task.deadline > m.now() {
			task.priority = p
			changed = append(changed, task.id)
		}
	}
	a := m.post("/task-group/"+id+"/priority", with{"newPriority": p.String()})
	m.expect(a, true)
	if got, _ := a.at("taskIds").([]any); !slices.Equal(got, changed) {
		t.Fatalf("changed %v, want %v", got, changed)
	}
	m.want = append(m.want, "task-group-priority-changed "+id)
}

func (m *model) seal(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
		t.Skip("else all groups are sealed soon")
	}
	id, g := m.group(t)
	m.expect(m.post("/task-group/"+id+"/seal", nil), true)
	g.sealed = true
	m.want = append(m.want, "task-group-sealed "+id)
}

func (m *model) cancelGroup(t *rapid.T) {
	id, g := m.group(t)
	a := m.post("/task-group/"+id+"/cancel", nil)
	m.expect(a, g.sealed)
	if !g.sealed {
		return
	}
	var open []*modelTask
	for _, task := range m.members(id) {
		if task.open() && task.deadline > m.now() {
			open = append(open, task)
		}
	}
	for _, task := range open {
		m.end(task, "canceled")
	}
	if len(open) > 0 {
		m.groupResolved(open[0])
	}
	if a.at("cancelledCount") != float64(len(open)) || a.at("taskGroupSize") != float64(len(m.members(id))) {
		t.Fatalf("%d were canceled of %d: %s", len(open), len(m.members(id)), a.body)
	}
}

// pass lets time pass, seldom much, and handles what is due in one go, as the
// loop does.
func (m *model) pass(t *rapid.T) {
	span := time.Duration(rapid.IntRange(1, 12*60).Draw(t, "seconds")) * time.Second
	if rapid.IntRange(0, 7).Draw(t, "long") == 0 {
		span *= 60
	}
	m.d.clock.Advance(span)
	now := m.now()
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
	slices.SortStableFunc(due, func(a, b *modelTask) int { return cmp.Compare(at(a), at(b)) })
	m.unordered = len(due) > 1
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

// sweep removes what has expired.
func (m *model) sweep(t *rapid.T) {
	before := m.now().Add(-expireGrace)
	removed := m.d.sweep()
	var gone []*modelTask
	m.tasks = slices.DeleteFunc(m.tasks, func(task *modelTask) bool {
		if task.expires >= before {
			return false
		}
		gone = append(gone, task)
		return true
	})
	if removed["tasks"] != len(gone) {
		t.Fatalf("%d tasks were removed, want %d", removed["tasks"], len(gone))
	}
	for _, task := range gone {
		if a := m.d.call(root, "GET", "/task/"+task.id, nil); a.status != 404 {
			t.Fatalf("task %s is still there: %d", task.id, a.status)
		}
	}
	for id, g := range m.groups {
		if g.expires < before && len(m.members(id)) == 0 {
			delete(m.groups, id)
			if a := m.d.call(root, "GET", "/task-group/"+id, nil); a.status != 404 {
				t.Fatalf("group %s is still there: %d", id, a.status)
			}
		}
	}
}

// crash goes on with what is on disk while nobody closes anything. PostgreSQL
// only loses its client.
func (m *model) crash(t *rapid.T) {
	old, dir := m.d, m.d.dir
	if storetest.Dialect() == store.SQLite {
		dir = old.t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(old.dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "taskcluster.db-shm")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err) // shared memory does not outlive a crash of the machine
		}
	}
	old.store.Close() // of which the copy knows nothing
	old.store = nil
	m.d = deployIn(old.t, dir, old.clock)
	m.d.read = old.read
}
