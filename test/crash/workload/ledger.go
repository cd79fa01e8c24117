// Package workload drives clients against a deployment that is being mistreated,
// and checks that nothing which was acknowledged is lost.
//
// A Load has clients that create, claim, resolve, cancel and rerun tasks, seal
// and cancel task groups, change priorities, make artifacts, clients and roles,
// each call against one of the nodes that are there. Its Ledger keeps what was sent and what was
// acknowledged; a call whose connection broke may or may not have happened, and
// is repeated where the API allows it. A History follows every task through the
// events. Verify, Settle and Check compare the three with what the deployment
// says.
package workload

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"taskcluster/client/queue"
)

// TaskQueue is where the tasks of a Load wait.
const TaskQueue = "crash/test"

// Ledger is what was sent and what was acknowledged. Its methods are safe for
// concurrent use.
type Ledger struct {
	clocks clocks // of the nodes

	mu        sync.Mutex
	tasks     map[string]*task
	order     []string // ids of tasks, as they were sent
	claims    map[runKey]string
	artifacts map[artifactKey]bool // acknowledged
	auth      map[string]*entity   // "client/<id>" or "role/<id>"
	sealed    map[string]*sealedGroup
	problems  []string
	counts    Counts
}

// Counts are how many calls of a Load ended in which way.
type Counts struct {
	Acknowledged, Refused, Unknown, Unavailable int // Unavailable: answered with 5xx
	Tasks, Claims, Resolutions, Artifacts       int // acknowledged
	Named                                       int // of the claims: by claimTask
	Sealed, Cancelled                           int // task groups
	// Staleness is how long after its deletion a client was let in last.
	Staleness time.Duration
}

func (c Counts) String() string {
	return fmt.Sprintf("%d tasks, %d claims (%d by name), %d resolutions, %d artifacts, %d sealed and %d canceled groups acknowledged; %d calls in all, beside them %d refused, %d without an answer, %d answered with 5xx; deleted clients let in for at most %v",
		c.Tasks, c.Claims, c.Named, c.Resolutions, c.Artifacts, c.Sealed, c.Cancelled, c.Acknowledged, c.Refused, c.Unknown, c.Unavailable, c.Staleness.Round(time.Millisecond))
}

type runKey struct {
	task string
	run  int
}

func (k runKey) String() string { return fmt.Sprintf("%s/%d", k.task, k.run) }

type artifactKey struct {
	runKey
	name string
}

// task is what is known of a task from calls.
type task struct {
	group        string // of those that are made to be sealed and canceled
	dependencies []string
	retries      int
	acknowledged bool
	cancelled    bool              // acknowledged, with its group
	floor        *queue.TaskStatus // the latest that was acknowledged
	sent         int               // calls about the task, each of which may repeat messages
	priority     setting
}

// setting is a value that one client at a time changes.
type setting struct {
	known string   // the last one that was acknowledged
	maybe []string // sent since, without an answer
}

func (s *setting) sent(v string) { s.maybe = append(s.maybe, v) }

func (s *setting) end(v string, o outcome) {
	switch o {
	case done:
		s.known, s.maybe = v, nil
	case refused:
		if i := slices.Index(s.maybe, v); i >= 0 {
			s.maybe = slices.Delete(s.maybe, i, i+1)
		}
	}
}

func (s *setting) allows(v string) bool { return v == s.known || slices.Contains(s.maybe, v) }

// entity is a client or a role; absent ones have the value "".
type entity struct {
	value   setting
	changes int // acknowledged
}

// NewLedger returns an empty one, about nodes that have such clocks; without
// any they go by the machine's.
func NewLedger(clocks ...*Clock) *Ledger {
	return &Ledger{clocks: clocks, tasks: map[string]*task{}, claims: map[runKey]string{}, artifacts: map[artifactKey]bool{}, auth: map[string]*entity{}, sealed: map[string]*sealedGroup{}}
}

// Problems are the broken promises that were met so far.
func (l *Ledger) Problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.problems)
}

// Counts tells how many calls there were.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts
}

// with runs f while nobody else uses the ledger.
func (l *Ledger) with(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// broken notes a broken promise. The ledger is locked.
func (l *Ledger) broken(format string, args ...any) {
	if len(l.problems) < 50 {
		l.problems = append(l.problems, fmt.Sprintf(format, args...))
	}
}

// define notes a task before it is sent.
func (l *Ledger) define(id string, dependencies []string, retries int, priority string) {
	l.with(func() {
		l.tasks[id] = &task{dependencies: dependencies, retries: retries, priority: setting{known: priority}}
		l.order = append(l.order, id)
	})
}

// sending notes a call about a task before it is sent.
func (l *Ledger) sending(id string) {
	l.with(func() { l.tasks[id].sent++ })
}

// acknowledge notes the status in an answer: what it says stays true.
func (l *Ledger) acknowledge(st *queue.TaskStatus) {
	t := l.tasks[st.TaskID]
	if t == nil {
		l.broken("task %s was never sent", st.TaskID)
		return
	}
	t.acknowledged = true
	// Answers may overtake each other, so the later state is either.
	switch {
	case t.floor == nil || extends(t.floor, st) == "":
		t.floor = st
	case extends(st, t.floor) != "":
		l.broken("task %s: two answers contradict each other: %s", st.TaskID, extends(t.floor, st))
	}
}

// claimed notes a run that a worker was given.
func (l *Ledger) claimed(c *queue.ClaimWorkResponseTask, worker string) {
	key := runKey{c.Status.TaskID, c.RunID}
	l.counts.Claims++
	if other, ok := l.claims[key]; ok {
		l.broken("run %s was given to %s and then to %s", key, other, worker)
	}
	l.claims[key] = worker
	l.acknowledge(&c.Status)
}

// open is how many tasks are not known to be resolved.
func (l *Ledger) open() (n int) {
	l.with(func() {
		for _, id := range l.order[max(0, len(l.order)-2000):] {
			if t := l.tasks[id]; t.floor == nil || !resolved(t.floor.State) {
				n++
			}
		}
	})
	return n
}

// floors are the acknowledged states, as they are now.
func (l *Ledger) floors() map[string]*queue.TaskStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]*queue.TaskStatus{}
	for id, t := range l.tasks {
		if t.acknowledged {
			out[id] = t.floor
		}
	}
	return out
}

func (l *Ledger) ids() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.tasks))
}

func resolved(state string) bool {
	return state == "completed" || state == "failed" || state == "exception"
}

// rank orders the states that a run goes through.
func rank(state string) int {
	switch {
	case state == "pending":
		return 1
	case state == "running":
		return 2
	case resolved(state):
		return 3
	}
	return 0
}

// extends tells why later cannot be what became of earlier; "" if it can.
func extends(earlier, later *queue.TaskStatus) string {
	if len(later.Runs) < len(earlier.Runs) {
		return fmt.Sprintf("run %d is gone", len(earlier.Runs)-1)
	}
	for i, was := range earlier.Runs {
		is := later.Runs[i]
		switch {
		case rank(is.State) < rank(was.State):
			return fmt.Sprintf("run %d was %s and is %s", i, was.State, is.State)
		case was.WorkerID != "" && is.WorkerID != was.WorkerID:
			return fmt.Sprintf("run %d belonged to %q and belongs to %q", i, was.WorkerID, is.WorkerID)
		case is.ReasonCreated != was.ReasonCreated || !is.Scheduled.Equal(was.Scheduled.Time):
			return fmt.Sprintf("run %d is another one: %s %s, %s %s", i, was.ReasonCreated, was.Scheduled, is.ReasonCreated, is.Scheduled)
		case resolved(was.State) && (is.State != was.State || is.ReasonResolved != was.ReasonResolved || !is.Resolved.Equal(was.Resolved.Time)):
			return fmt.Sprintf("run %d was %s (%s) and is %s (%s)", i, was.State, was.ReasonResolved, is.State, is.ReasonResolved)
		case was.State == "running" && is.State == "running" && is.TakenUntil.Before(was.TakenUntil.Time):
			return fmt.Sprintf("run %d was claimed until %s, and is until %s", i, was.TakenUntil, is.TakenUntil)
		}
	}
	return ""
}
