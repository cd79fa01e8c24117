package queue

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"

	"pgregory.net/rapid"
)

// The queue against a small model of it: random calls, on PostgreSQL to two nodes,
// time that passes, crashes, removal of what expired. After each step the states agree, each
// transition has exactly its events in order, and the counters are what a recount
// gives. The steps are in model_steps_test.go.

type modelRun struct {
	state, created, resolved string
	worker                   string
	scheduled, until         clock.Time
}

type modelTask struct {
	id          string
	number      int // order of creation
	queue       string
	key         string // of its concurrency limit, or empty
	limit       int
	priority    priority
	retries     int
	left        int
	group       string
	deadline    clock.Time
	expires     clock.Time
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

type modelGroup struct {
	expires clock.Time
	sealed  bool
}

type model struct {
	t          *rapid.T
	d          *deployment
	other      *deployment // another node on the same database, or nil
	tasks      []*modelTask
	created    int
	shared     []string               // ids of groups that tasks share
	groups     map[string]*modelGroup // those that there are
	quarantine map[string]clock.Time  // of workers, by queue and name
	want       []string               // events
	unordered  bool                   // these, among each other: several tasks were due
}

func (m *model) now() clock.Time { return m.d.clock.Now() }

// members are the tasks of a group.
func (m *model) members(group string) (list []*modelTask) {
	for _, task := range m.tasks {
		if task.group == group {
			list = append(list, task)
		}
	}
	return list
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
	for _, other := range m.members(task.group) {
		if !other.ever {
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

// check compares everything that can be seen with the model.
func (m *model) check(t *rapid.T) {
	var got []string
	for _, e := range m.d.messages() {
		parts := strings.Split(e.Key, ".")
		kind := strings.TrimPrefix(e.Exchange, exchangePrefix)
		if strings.HasPrefix(kind, "task-group-") {
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
		if !slices.Equal(a, b) || !m.unordered {
			t.Fatalf("events\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(m.want, "\n"))
		}
	}
	m.want, m.unordered = nil, false
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
	// Fewer but longer runs than rapid's default, unless the command line says otherwise.
	few := map[string]string{"rapid.checks": "16", "rapid.steps": "100"}
	if storetest.Dialect() == store.Postgres {
		few = map[string]string{"rapid.checks": "2", "rapid.steps": "60"}
	}
	for name, n := range few {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			if err := f.Value.Set(n); err != nil {
				t.Fatal(err)
			}
			defer f.Value.Set(f.DefValue)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{t: rt, d: deployIn(t, t.TempDir(), testClock()), shared: []string{slugid.New().String(), slugid.New().String()},
			groups: map[string]*modelGroup{}, quarantine: map[string]clock.Time{}}
		if m.d.shared() {
			m.other = m.d.beside()
		}
		defer func() {
			for _, d := range []*deployment{m.d, m.other} {
				if d != nil {
					d.store.Close()
					d.store = nil
				}
			}
		}()
		steps := map[string]func(*rapid.T){"": m.check}
		for name, f := range map[string]func(*rapid.T){
			"create": m.create, "create2": m.create, "createMany": m.createMany, "claim": m.claim, "claim2": m.claim,
			"claimTask": m.claimTask, "reclaim": m.reclaim, "report": m.report, "report2": m.report, "cancel": m.cancel,
			"rerun": m.rerun, "schedule": m.force, "priority": m.reprioritize, "groupPriority": m.reprioritizeGroup,
			"seal": m.seal, "cancelGroup": m.cancelGroup, "quarantine": m.setQuarantine, "pass": m.pass, "pass2": m.pass,
			"sweep": m.sweep, "crash": m.crash, "node": m.swap, "node2": m.swap,
		} {
			steps[name] = func(t *rapid.T) {
				m.t = t
				f(t)
			}
		}
		rt.Repeat(steps)
	})
}
