package queue

import (
	"taskcluster/internal/api"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

func (s *Service) changeTaskPriority(c *api.Call, in *ChangeTaskPriorityRequest) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	p, _ := parsePriority(in.NewPriority) // the schema lists them
	t, err := s.readTask(c.Context, id)
	if err != nil {
		return nil, err
	}
	if err := c.Authorize(map[string]any{"taskId": id.String(), "taskQueueId": t.queue}); err != nil {
		return nil, err
	}
	return s.change(c, id, func(tx *store.Tx, t *task) (refusal, err error) {
		switch {
		case t.deadline <= tx.Now():
			return conflict("Task `%s` can't be reprioritized past its deadline at %s.", id, t.deadline), nil
		case t.everResolved:
			return conflict("Task `%s` is already resolved and cannot be reprioritized.", id), nil
		case t.priority == p:
			return nil, nil
		}
		o := s.begin(tx)
		old := t.priority
		if err := o.setPriority(t, p); err != nil {
			return nil, err
		}
		o.publishPriority(t, old)
		c.Audit(tx)
		return nil, o.finish()
	})
}

// setPriority changes the priority of a task. If it is pending it moves to
// where it would be had it always had that priority.
func (o *op) setPriority(t *task, p priority) error {
	t.priority = p
	if t.state() == pending {
		o.c.changes = append(o.c.changes, t.pendingChange())
	}
	return o.write(t.id, stmt.setPriority, int64(p), t.row)
}

// changeTaskGroupPriority works through the group in chunks, each of them a
// transaction. A crash in between leaves the rest to the caller's next try,
// which skips what is done.
func (s *Service) changeTaskGroupPriority(c *api.Call, in *ChangeTaskPriorityRequest) (any, error) {
	id, err := slugid.Parse(c.Param("taskGroupId"))
	if err != nil {
		return nil, err
	}
	p, _ := parsePriority(in.NewPriority)
	g, err := s.readGroup(c.Context, id)
	if err != nil {
		return nil, err
	}
	if err := c.Authorize(map[string]any{"schedulerId": g.scheduler, "taskGroupId": id.String()}); err != nil {
		return nil, err
	}
	changed := []slugid.ID{}
	for after := int64(0); after >= 0; {
		var chunk []slugid.ID
		next := int64(-1)
		err := s.store.Write(c.Context, func(tx *store.Tx) error {
			chunk, next = nil, -1
			rows, err := rowsOf(tx.Query(stmt.groupOtherPriority, g.row, after, int64(p), tx.Now(), groupChunk))
			if err != nil {
				return err
			}
			o := s.begin(tx)
			for _, row := range rows {
				t, err := loadRow(tx, row)
				if err != nil {
					return err
				}
				if err := o.setPriority(t, p); err != nil {
					return err
				}
				chunk = append(chunk, t.id)
			}
			if len(rows) == groupChunk {
				next = rows[len(rows)-1]
				return o.finish()
			}
			o.publishGroupPriority(g, p, len(changed)+len(chunk))
			c.Audit(tx)
			return o.finish()
		})
		if err != nil {
			return nil, err
		}
		changed = append(changed, chunk...)
		after = next
	}
	return &TaskGroupPriorityChangeResponse{TaskGroupID: id.String(), SchedulerID: g.scheduler,
		NewPriority: in.NewPriority, TasksAffected: int64(len(changed)), TaskIDs: texts(changed)}, nil
}

func texts(ids []slugid.ID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}
