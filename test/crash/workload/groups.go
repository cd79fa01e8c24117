package workload

import (
	"context"
	"math/rand/v2"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
)

// sealedGroup is a task group whose seal was acknowledged.
type sealedGroup struct {
	ids       []string // of its tasks that were acknowledged
	sealed    client.Time
	cancelled bool // acknowledged
}

// groups makes task groups, seals them and cancels what is left of them. Nobody
// else changes their tasks but workers.
func (l *Load) groups() {
	for l.ctx.Err() == nil {
		l.pause()
		if l.ledger.open() > maxOpen {
			continue
		}
		group, ids := l.createMany(true)
		if len(ids) == 0 {
			continue
		}
		if l.call("cancelTaskGroup of an open group", []int{409}, l.cancelGroup(group, ids)) == done {
			l.ledger.with(func() { l.ledger.broken("group %s was canceled, and is not sealed", group) })
		}
		g := l.seal(group, ids)
		if g == nil {
			continue
		}
		l.intrude(group)
		l.ledger.with(func() { l.ledger.sealed[group] = g })
		if rand.IntN(3) == 0 {
			continue // it is left to the workers
		}
		since := l.ledger.clocks.moment()
		if l.call("cancelTaskGroup", nil, l.cancelGroup(group, ids)) == done {
			l.ledger.with(func() { g.cancelled = true; l.ledger.counts.Cancelled++ })
			l.ended(since, group, ids)
		}
	}
}

// seal closes a group; nil if that is not known.
func (l *Load) seal(group string, ids []string) (g *sealedGroup) {
	l.call("sealTaskGroup", nil, func(ctx context.Context, n *node, _ bool) error {
		got, err := n.queue(n.Credentials).SealTaskGroup(ctx, group)
		if err == nil {
			g = &sealedGroup{ids: ids, sealed: got.Sealed}
			l.ledger.with(func() {
				if l.ledger.counts.Sealed++; got.Sealed.IsZero() {
					l.ledger.broken("group %s was sealed, and the answer says it is not", group)
				}
			})
		}
		return err
	})
	return g
}

// intrude tries to add a task to a group that is sealed.
func (l *Load) intrude(group string) {
	since := l.ledger.clocks.moment()
	id, def := slugid.New().String(), l.ledger.definition(group, nil)
	def.Deadline = client.At(def.Created.Add(time.Hour))
	l.ledger.define(id, nil, *def.Retries, def.Priority)
	if l.callSince(since, "createTask in a sealed group", []int{409}, func(ctx context.Context, n *node, _ bool) error {
		l.ledger.sending(id)
		_, err := n.queue(n.Credentials).CreateTask(ctx, id, def)
		return err
	}) == done {
		l.ledger.with(func() { l.ledger.broken("task %s was added to group %s, which is sealed", id, group) })
	}
}

// cancelGroup is a call that cancels a group's tasks.
func (l *Load) cancelGroup(group string, ids []string) func(context.Context, *node, bool) error {
	return func(ctx context.Context, n *node, _ bool) error {
		for _, id := range ids {
			l.ledger.sending(id)
		}
		got, err := n.queue(n.Credentials).CancelTaskGroup(ctx, group)
		if err != nil {
			return err
		}
		l.ledger.with(func() {
			for _, id := range got.TaskIDs {
				if t := l.ledger.tasks[id]; t == nil || t.group != group {
					l.ledger.broken("canceling group %s canceled the task %s", group, id)
				} else {
					t.cancelled = true
				}
			}
		})
		return nil
	}
}

// ended sees that no task of a group that was canceled is left, but what was past
// its deadline, by the clock of some node since the moment before: that is not
// canceled, and resolved in a moment.
func (l *Load) ended(since int, group string, ids []string) {
	l.call("statuses", nil, func(ctx context.Context, n *node, _ bool) error {
		found, err := n.statuses(ctx, ids)
		if err != nil {
			return err
		}
		l.ledger.with(func() {
			for _, id := range ids {
				switch st := found[id]; {
				case st == nil:
					l.ledger.broken("task %s was acknowledged and is gone", id)
				case !resolved(st.State) && l.ledger.clocks.steady(since) && st.Deadline.After(l.ledger.clocks.now()):
					l.ledger.broken("group %s was canceled, and its task %s is %s", group, id, st.State)
				default:
					l.ledger.acknowledge(st)
				}
			}
		})
		return nil
	})
}

// checkGroups compares groups that were sealed with what the node and the events
// say of them.
func (l *Ledger) checkGroups(ctx context.Context, n *node, found map[string]*queue.TaskStatus, h *History) error {
	for id, g := range l.sealed {
		got, err := n.queue(n.Credentials).GetTaskGroup(ctx, id)
		if err != nil && !client.IsNotFound(err) {
			return err
		}
		if err != nil || !got.Sealed.Equal(g.sealed.Time) {
			l.broken("group %s was sealed at %s; now: %+v, %v", id, g.sealed, got, err)
		}
		if told := h.groups[id]; told == nil || !told.sealed {
			l.broken("group %s was sealed, and no event said so", id)
		}
		if !g.cancelled {
			continue
		}
		for _, task := range g.ids {
			if st := found[task]; st != nil && !resolved(st.State) {
				l.broken("group %s was canceled, and its task %s is %s", id, task, st.State)
			}
		}
	}
	for id, t := range l.tasks {
		if !t.cancelled {
			continue
		}
		st := found[id]
		if st == nil || len(st.Runs) == 0 || st.Runs[len(st.Runs)-1].ReasonResolved != "canceled" {
			l.broken("task %s was canceled with its group: %+v", id, st)
		}
	}
	return nil
}
