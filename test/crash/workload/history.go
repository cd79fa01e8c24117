package workload

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"taskcluster/client/queue"
	"taskcluster/internal/events"
)

// History is what the events tell. It follows every task through its life
// cycle: an event that is missing, comes twice or too early shows in the next
// one, or at the end in how the task stands.
type History struct {
	tasks    map[string]*told
	groups   map[string]*group
	auth     map[string]*toldEntity
	at       events.Position
	sums     []sum          // of all events, in order
	created  map[string]int // by the id of a client: how many events there were, its creation included
	problems []string

	// Events is how many were read, Repeated how many of them said again what
	// another had said.
	Events, Repeated int
	// Latest are the longest delays of what a timer does: how long after it was
	// due a claim expired, or a deadline passed.
	LateExpiry, LateDeadline time.Duration
}

// told is a task, as its events tell.
type told struct {
	runs         []toldRun
	retriesLeft  int
	priority     string
	group        string
	deadline     time.Time
	defined      int
	repeated     int
	everResolved bool
	completed    bool // ever
	resolved     bool // ever, with a verdict or without one
	artifacts    map[artifactKey]int
}

type toldRun struct {
	state, worker, reason string
	retried               bool // its exception says that a run follows
}

type group struct {
	open   int // tasks that were never resolved
	told   bool
	sealed bool
}

type toldEntity struct{ created, updated, deleted int }

// NewHistory begins before the first event.
func NewHistory() *History {
	return &History{tasks: map[string]*told{}, groups: map[string]*group{}, auth: map[string]*toldEntity{}, created: map[string]int{}}
}

// Forget leaves out tasks that are not a Load's.
func (h *History) Forget(ids ...string) {
	for _, id := range ids {
		delete(h.tasks, id)
	}
}

// Problems are what contradicts the life cycle.
func (h *History) Problems() []string { return h.problems }

func (h *History) broken(format string, args ...any) {
	if len(h.problems) < 50 {
		h.problems = append(h.problems, fmt.Sprintf(format, args...))
	}
}

// message has the members of all messages.
type message struct {
	Status      queue.TaskStatus `json:"status"`
	RunID       int              `json:"runId"`
	WorkerID    string           `json:"workerId"`
	OldPriority string           `json:"oldPriority"`
	NewPriority string           `json:"newPriority"`
	TaskGroupID string           `json:"taskGroupId"`
	Artifact    struct {
		Name string `json:"name"`
	} `json:"artifact"`
	ClientID string `json:"clientId"`
	RoleID   string `json:"roleId"`
}

// Add takes the next events, in order.
func (h *History) Add(messages []events.Message) {
	for i := range messages {
		m := &messages[i]
		if m.Position <= h.at {
			h.broken("position %d comes after %d", m.Position, h.at)
		}
		h.at = m.Position
		h.Events++
		var p message
		if err := json.Unmarshal(m.Payload, &p); err != nil {
			h.broken("%s: %v", m.Exchange, err)
			continue
		}
		h.remember(m, &p)
		if name, ok := strings.CutPrefix(m.Exchange, "exchange/taskcluster-queue/v1/"); ok {
			h.queue(name, m, &p)
		} else if name, ok := strings.CutPrefix(m.Exchange, "exchange/taskcluster-auth/v1/"); ok {
			h.entity(name, &p)
		}
	}
}

func (h *History) queue(name string, m *events.Message, p *message) {
	if name == "task-group-resolved" {
		g := h.groups[p.TaskGroupID]
		if g == nil || g.open > 0 {
			h.broken("group %s was called resolved: %+v", p.TaskGroupID, g)
		} else {
			g.told = true
		}
		return
	}
	if name == "task-group-sealed" {
		g := h.groups[p.TaskGroupID]
		if g == nil {
			h.broken("group %s was sealed before it had a task", p.TaskGroupID)
			return
		}
		if g.sealed { // the call was repeated
			h.Repeated++
		}
		g.sealed = true
		return
	}
	if strings.HasPrefix(name, "task-group-") {
		return
	}
	id := p.Status.TaskID
	t := h.tasks[id]
	if t == nil {
		if name != "task-defined" {
			h.broken("task %s: the first event is %s", id, name)
		}
		t = &told{priority: p.Status.Priority, group: p.Status.TaskGroupID, deadline: p.Status.Deadline.Time, retriesLeft: p.Status.RetriesLeft, artifacts: map[artifactKey]int{}}
		h.tasks[id] = t
		g := h.groups[t.group]
		if g == nil {
			g = &group{}
			h.groups[t.group] = g
		}
		if g.sealed {
			h.broken("task %s came into group %s, which is sealed", id, t.group)
		}
		g.open++
		g.told = false
	}
	if problem := t.follow(h, name, m, p); problem != "" {
		h.broken("task %s at position %d: %s of run %d: %s; it had %+v", id, m.Position, name, p.RunID, problem, t.runs)
	}
}

// follow takes an event of the task, and tells why it cannot be.
func (t *told) follow(h *History, name string, m *events.Message, p *message) string {
	last := len(t.runs) - 1
	again := func() { t.repeated++; h.Repeated++ }
	switch name {
	case "task-defined":
		if t.defined++; t.defined > 1 {
			again()
		}
		return ""
	case "task-priority-changed":
		if p.OldPriority != t.priority {
			return fmt.Sprintf("the priority was %s, not %s", t.priority, p.OldPriority)
		}
		t.priority = p.NewPriority
		return ""
	case "task-pending":
		if p.RunID == last && t.runs[last].state == "pending" {
			again()
			return ""
		}
		if p.RunID != len(t.runs) || last >= 0 && !resolved(t.runs[last].state) {
			return "it cannot be pending"
		}
		if last >= 0 && t.runs[last].retried {
			t.retriesLeft--
		}
		t.runs = append(t.runs, toldRun{state: "pending"})
		return ""
	}
	if name == "task-exception" && last < 0 && p.RunID == 0 { // canceled before it was scheduled
		t.runs, last = append(t.runs, toldRun{}), 0
	}
	if p.RunID > last || p.RunID >= len(p.Status.Runs) {
		return "there is no such run"
	}
	run, says := &t.runs[p.RunID], &p.Status.Runs[p.RunID]
	switch name {
	case "task-running":
		if p.RunID == last && run.state == "running" && run.worker == p.WorkerID && strings.HasPrefix(p.WorkerID, named) {
			again()
			return ""
		}
		if p.RunID != last || run.state != "pending" {
			return "it cannot be claimed"
		}
		run.state, run.worker = "running", p.WorkerID
	case "artifact-created":
		key := artifactKey{runKey{p.Status.TaskID, p.RunID}, p.Artifact.Name}
		if t.artifacts[key]++; t.artifacts[key] > 1 {
			again()
		}
	case "task-completed", "task-failed", "task-exception":
		state := strings.TrimPrefix(name, "task-")
		if resolved(run.state) && run.state == state && run.reason == says.ReasonResolved {
			again()
			return ""
		}
		if p.RunID != last || resolved(run.state) || state != "exception" && run.state != "running" {
			return "it cannot be resolved"
		}
		h.late(m.Time.Std(), says, t, run)
		run.state, run.reason = state, says.ReasonResolved
		run.retried = len(p.Status.Runs) > p.RunID+1
		t.completed = t.completed || state == "completed"
		if !run.retried {
			t.resolved = true
			if !t.everResolved {
				t.everResolved = true
				h.groups[t.group].open--
			}
		}
	default:
		return "it is unknown"
	}
	return ""
}

// late notes how late a timer was.
func (h *History) late(at time.Time, says *queue.TaskStatusRun, t *told, run *toldRun) {
	switch says.ReasonResolved {
	case "claim-expired":
		if run.state == "running" {
			h.LateExpiry = max(h.LateExpiry, at.Sub(says.TakenUntil.Time))
		}
	case "deadline-exceeded":
		h.LateDeadline = max(h.LateDeadline, at.Sub(t.deadline))
	}
}

func (h *History) entity(name string, p *message) {
	kind, what, _ := strings.Cut(name, "-")
	key := kind + "/" + p.ClientID + p.RoleID
	e := h.auth[key]
	if e == nil {
		e = &toldEntity{}
		h.auth[key] = e
	}
	switch what {
	case "created":
		e.created++
	case "updated":
		e.updated++
	case "deleted":
		e.deleted++
	}
	if e.created == 0 && strings.Contains(key, "crash") {
		h.broken("%s was %s before it was created", key, what)
	}
}

// agrees tells in what a status is not what the events told.
func (t *told) agrees(st *queue.TaskStatus) string {
	runs := slices.Clone(st.Runs)
	switch {
	case len(runs) != len(t.runs):
		return fmt.Sprintf("it has %d runs, the events told of %d", len(runs), len(t.runs))
	case st.Priority != t.priority:
		return fmt.Sprintf("its priority is %s, the events say %s", st.Priority, t.priority)
	}
	for i, r := range runs {
		told := t.runs[i]
		if r.State != told.state || r.WorkerID != told.worker || r.ReasonResolved != told.reason {
			return fmt.Sprintf("run %d is %s (%s) of %q, the events say %s (%s) of %q", i, r.State, r.ReasonResolved, r.WorkerID, told.state, told.reason, told.worker)
		}
	}
	return ""
}
