package workload

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/events"
	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/sqlite"
)

func connect(n Node) *node { return &node{Node: n, transport: client.NewTransport()} }

func (n *node) close() { n.transport.CloseIdleConnections() }

// statuses asks a node for tasks; those that it does not know are missing.
func (n *node) statuses(ctx context.Context, ids []string) (map[string]*queue.TaskStatus, error) {
	out := map[string]*queue.TaskStatus{}
	for len(ids) > 0 {
		chunk := ids[:min(len(ids), 500)]
		got, err := n.queue(n.Credentials).Statuses(ctx, &queue.TasksRequest{TaskIDs: chunk}, queue.StatusesQuery{})
		if err != nil {
			return nil, err
		}
		for _, e := range got.Statuses {
			out[e.TaskID] = &e.Status
		}
		ids = ids[len(chunk):]
	}
	return out, nil
}

// Verify asks a node for every task of which something was acknowledged, and
// notes what it does not know any more. It may be called under load.
func (l *Ledger) Verify(ctx context.Context, at Node) error {
	floors := l.floors()
	var ids []string
	for id := range floors {
		ids = append(ids, id)
	}
	n := connect(at)
	defer n.close()
	found, err := n.statuses(ctx, ids)
	if err != nil {
		return err
	}
	l.with(func() { l.compare(floors, found) })
	return nil
}

func (l *Ledger) compare(floors, found map[string]*queue.TaskStatus) {
	for id, floor := range floors {
		if st := found[id]; st == nil {
			l.broken("task %s was acknowledged and is gone", id)
		} else if problem := extends(floor, st); problem != "" {
			l.broken("task %s: %s", id, problem)
		}
	}
}

// Settle works through everything that waits, until no task is pending or
// running. A task that waits for good is a broken promise, and so is one that
// nobody is given.
func (l *Ledger) Settle(ctx context.Context, at Node) error {
	n := connect(at)
	defer n.close()
	settling, cancel := context.WithCancel(ctx)
	defer cancel()
	workers := &Load{ledger: l, ctx: settling, stop: cancel, nodes: []*node{n}}
	for i := range 4 {
		workers.wg.Go(func() { workers.finish(fmt.Sprintf("settle-%d-%d", time.Now().UnixNano(), i)) })
	}
	defer workers.wg.Wait()
	defer cancel()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		found, err := n.statuses(ctx, l.ids())
		if err != nil {
			return err
		}
		waiting := 0
		l.with(func() {
			for id, st := range found {
				if l.waits(id, st, found) {
					waiting++
				}
			}
		})
		if waiting == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			l.with(func() {
				for id, st := range found {
					if l.waits(id, st, found) {
						l.broken("task %s stays %s: %+v", id, st.State, st.Runs)
					}
				}
			})
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// waits tells whether something must still happen to a task: it is not
// resolved, and neither an open dependency nor a deadline far away is the reason.
func (l *Ledger) waits(id string, st *queue.TaskStatus, found map[string]*queue.TaskStatus) bool {
	if st.State != "unscheduled" || st.Deadline.Sub(l.clocks.now()) < time.Minute {
		return !resolved(st.State)
	}
	for _, d := range l.tasks[id].dependencies {
		if found[d] == nil || found[d].State != "completed" {
			return false
		}
	}
	return true
}

// finish completes what it is given.
func (l *Load) finish(worker string) {
	for round := 0; l.ctx.Err() == nil; round++ {
		n := l.pick()
		if n == nil {
			return
		}
		name := fmt.Sprintf("%s-%d", worker, round)
		since := l.ledger.clocks.moment()
		got, err := n.queue(n.Credentials).ClaimWork(l.ctx, TaskQueue, &queue.ClaimWorkRequest{WorkerGroup: "crash", WorkerID: name, Tasks: 32})
		if l.outcomeOf("claimWork", since, err) != done {
			l.pause()
			continue
		}
		l.ledger.with(func() {
			for i := range got.Tasks {
				l.ledger.claimed(&got.Tasks[i], name)
			}
		})
		for i := range got.Tasks {
			c := &got.Tasks[i]
			l.call("reportCompleted", gone, func(ctx context.Context, n *node, _ bool) error {
				l.ledger.sending(c.Status.TaskID)
				got, err := n.queue(n.Credentials).ReportCompleted(ctx, c.Status.TaskID, strconv.Itoa(c.RunID))
				if err == nil {
					l.ledger.with(func() { l.ledger.counts.Resolutions++; l.ledger.acknowledge(&got.Status) })
				}
				return err
			})
		}
	}
}

// ReadPostgres takes the events that came since from the database at url. Its
// nodes may go on.
func (h *History) ReadPostgres(ctx context.Context, url string) error {
	return h.read(ctx, func(opts store.Options) (*store.Store, error) { return postgres.Open(ctx, url, opts) })
}

// ReadSQLite takes the events that came since from a data directory that no
// process uses.
func (h *History) ReadSQLite(ctx context.Context, dataDir string) error {
	return h.read(ctx, func(opts store.Options) (*store.Store, error) {
		return sqlite.Open(ctx, filepath.Join(dataDir, "taskcluster.db"), opts)
	})
}

func (h *History) read(ctx context.Context, open func(store.Options) (*store.Store, error)) error {
	s, err := open(store.Options{Migrations: []store.Migrations{events.Migrations}})
	if err != nil {
		return err
	}
	defer s.Close()
	log := events.NewLog(s, events.Options{})
	for {
		messages, err := log.Read(ctx, h.at, 2000)
		if err != nil || len(messages) == 0 {
			return err
		}
		h.Add(messages)
	}
}

// Check compares what was acknowledged, what the node at says, and what the
// events tell, after Settle. It returns the broken promises, none when all were
// kept.
func (l *Ledger) Check(ctx context.Context, at Node, h *History) ([]string, error) {
	n := connect(at)
	defer n.close()
	ids := l.ids()
	found, err := n.statuses(ctx, ids)
	if err != nil {
		return nil, err
	}
	floors := l.floors()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.compare(floors, found)
	for _, id := range ids {
		l.checkTask(id, found[id], h)
	}
	for id := range h.tasks {
		if l.tasks[id] == nil {
			l.broken("task %s was never sent, and has events", id)
		}
	}
	for key, worker := range l.claims {
		if st := found[key.task]; st == nil || key.run >= len(st.Runs) || st.Runs[key.run].WorkerID != worker {
			l.broken("run %s was given to %s, and is not his", key, worker)
		}
	}
	for id, g := range h.groups {
		if g.open == 0 && !g.told {
			l.broken("all tasks of group %s are resolved, and no event said so", id)
		}
	}
	if err := l.checkCounts(ctx, n, found); err != nil {
		return nil, err
	}
	if err := l.checkGroups(ctx, n, found, h); err != nil {
		return nil, err
	}
	if err := l.checkArtifacts(ctx, n, h); err != nil {
		return nil, err
	}
	if err := l.checkAuth(ctx, n, h); err != nil {
		return nil, err
	}
	return append(h.Problems(), l.problems...), nil
}

func (l *Ledger) checkTask(id string, st *queue.TaskStatus, h *History) {
	t, told := l.tasks[id], h.tasks[id]
	switch {
	case st == nil && told == nil:
		return // it never happened
	case st == nil || told == nil:
		l.broken("task %s: it is there: %v, it has events: %v", id, st != nil, told != nil)
		return
	}
	if problem := told.agrees(st); problem != "" {
		l.broken("task %s: %s", id, problem)
	}
	if !t.priority.allows(st.Priority) {
		l.broken("task %s has the priority %s, acknowledged is %s, sent since %q", id, st.Priority, t.priority.known, t.priority.maybe)
	}
	// A call repeats at most two messages: those of a creation or of a retry.
	if told.repeated > 2*t.sent {
		l.broken("task %s: %d messages were repeated, %d calls sent", id, told.repeated, t.sent)
	}
	left := t.retries
	for i, r := range st.Runs {
		switch r.ReasonCreated {
		case "retry", "task-retry":
			left--
		case "rerun":
			left = min(t.retries, 50-(i+1))
		}
		if i < len(st.Runs)-1 && !resolved(r.State) {
			l.broken("task %s: run %d is %s, and is not the last one", id, i, r.State)
		}
	}
	if st.RetriesLeft != left {
		l.broken("task %s: %d retries are left, by its runs it should be %d: %+v", id, st.RetriesLeft, left, st.Runs)
	}
	if len(st.Runs) > 0 && st.Runs[0].ReasonCreated == "scheduled" {
		for _, d := range t.dependencies {
			if dep := h.tasks[d]; dep == nil || !dep.completed {
				l.broken("task %s was scheduled, and %s never completed", id, d)
			}
		}
	}
}

// checkCounts compares the counters of the queue with the tasks.
func (l *Ledger) checkCounts(ctx context.Context, n *node, found map[string]*queue.TaskStatus) error {
	got, err := n.queue(n.Credentials).TaskQueueCounts(ctx, TaskQueue)
	if err != nil {
		return err
	}
	states := map[string]int{}
	for _, st := range found {
		states[st.State]++
	}
	if got.PendingTasks != states["pending"] || got.ClaimedTasks != states["running"] {
		l.broken("the counters say %d pending and %d claimed, the tasks %v", got.PendingTasks, got.ClaimedTasks, states)
	}
	return nil
}

func (l *Ledger) checkArtifacts(ctx context.Context, n *node, h *History) error {
	listed := map[runKey]map[string]bool{}
	for key := range l.artifacts {
		names, ok := listed[key.runKey]
		if !ok {
			names = map[string]bool{}
			got, err := n.queue(n.Credentials).ListArtifacts(ctx, key.task, strconv.Itoa(key.run), queue.ListArtifactsQuery{})
			if err != nil {
				return err
			}
			for _, a := range got.Artifacts {
				names[a.Name] = true
			}
			listed[key.runKey] = names
		}
		if !names[key.name] {
			l.broken("artifact %s of run %s was acknowledged and is gone", key.name, key.runKey)
		}
		if t := h.tasks[key.task]; t != nil && t.artifacts[key] == 0 {
			l.broken("artifact %s of run %s has no event", key.name, key.runKey)
		}
	}
	return nil
}

// checkAuth compares clients and roles.
func (l *Ledger) checkAuth(ctx context.Context, n *node, h *History) error {
	for key, e := range l.auth {
		kind, id, _ := strings.Cut(key, "/")
		var value string
		var err error
		if kind == "client" {
			got, e := n.auth(n.Credentials).Client(ctx, id)
			if err = e; e == nil {
				value = got.Description
			}
		} else {
			got, e := n.auth(n.Credentials).Role(ctx, id)
			if err = e; e == nil {
				value = got.Description
			}
		}
		if err != nil && !client.IsNotFound(err) {
			return err
		}
		told := h.auth[key]
		if told == nil {
			told = &toldEntity{}
		}
		switch {
		case !e.value.allows(value):
			l.broken("%s is %q; acknowledged is %q, sent since %q", key, value, e.value.known, e.value.maybe)
		case told.created+told.updated+told.deleted < e.changes || (value == "") != (told.created == 0 || told.deleted > 0):
			l.broken("%s is %q after %d acknowledged changes; the events tell %+v", key, value, e.changes, *told)
		}
	}
	return nil
}
