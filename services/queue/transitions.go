package queue

import (
	"context"
	"errors"

	"taskcluster/internal/api"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// readTask reads a task on the readers' side; it is not found as a published
// error.
func (s *Service) readTask(ctx context.Context, id slugid.ID) (t *task, err error) {
	err = s.store.ReadOne(ctx, func(tx *store.Tx) error {
		t = new(task)
		return scanTask(tx.Row(stmt.task, id), t)
	})
	if err == nil && t.last.id > 0 { // with its past runs, all as of one moment
		err = s.store.Read(ctx, func(tx *store.Tx) error {
			t, err = loadTask(tx, id)
			return err
		})
	}
	if errors.Is(err, store.ErrNoRows) {
		return nil, taskNotFound(id)
	}
	return t, err
}

// byScheduler makes the handler of a transition that a scheduler asks for. act
// makes it; refusal is why it may not be. late says what is impossible past
// the deadline, in the published words, which differ.
func (s *Service) byScheduler(late string, act func(o *op, t *task) (refusal, err error)) func(*api.Call) (any, error) {
	return func(c *api.Call) (any, error) {
		id, err := slugid.Parse(c.Param("taskId"))
		if err != nil {
			return nil, err
		}
		t, err := s.readTask(c.Context, id)
		if err != nil {
			return nil, err
		}
		err = c.Authorize(map[string]any{"taskId": id.String(), "schedulerId": t.scheduler,
			"taskGroupId": t.group.String(), "projectId": t.project})
		if err != nil {
			return nil, err
		}
		return s.change(c, id, func(tx *store.Tx, t *task) (refusal, err error) {
			if t.deadline < tx.Now() {
				return conflict("Task `%s` can't be %s %s.", id, late, t.deadline), nil
			}
			o := s.begin(tx)
			if refusal, err = act(o, t); err != nil || refusal != nil {
				return refusal, err
			}
			c.Audit(tx)
			return nil, o.finish()
		})
	}
}

// change runs a transition of one task and answers with its status. What act
// refuses it must not have begun.
func (s *Service) change(c *api.Call, id slugid.ID, act func(tx *store.Tx, t *task) (refusal, err error)) (any, error) {
	var reply []byte
	var refusal error
	err := s.store.Write(c.Context, func(tx *store.Tx) error {
		refusal = nil
		t, err := loadTask(tx, id)
		if errors.Is(err, store.ErrNoRows) {
			refusal = taskNotFound(id)
			return nil
		}
		if err != nil {
			return err
		}
		refusal, err = act(tx, t)
		reply = t.statusReply()
		return err
	})
	if err == nil {
		err = refusal
	}
	if err != nil {
		return nil, err
	}
	return api.JSON(reply), nil
}
