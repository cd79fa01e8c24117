package queue

import (
	"encoding/json"
	"errors"

	"taskcluster/internal/api"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// resolution is a worker's report on one run, on its way through the batch.
type resolution struct {
	id    slugid.ID
	runID int
	state state
	why   reason
	audit func(*store.Tx)

	reply   []byte
	refusal error
}

func (s *Service) reportCompleted(c *api.Call) (any, error) {
	// Workers of old report a failure so.
	var in struct{ Success *bool }
	if body := c.Body(); len(body) > 0 && json.Unmarshal(body, &in) == nil && in.Success != nil && !*in.Success {
		return s.report(c, failed, reasonFailed)
	}
	return s.report(c, completed, reasonCompleted)
}

func (s *Service) reportFailed(c *api.Call) (any, error) {
	return s.report(c, failed, reasonFailed)
}

func (s *Service) reportException(c *api.Call, in *TaskExceptionRequest) (any, error) {
	why, ok := reported(string(in.Reason))
	if !ok {
		return nil, errors.New("the schema let an unknown reason through: " + string(in.Reason))
	}
	return s.report(c, exception, why)
}

func (s *Service) report(c *api.Call, st state, why reason) (any, error) {
	id, runID, err := authorizeRun(c)
	if err != nil {
		return nil, err
	}
	item := &resolution{id: id, runID: runID, state: st, why: why, audit: c.Audit}
	if err := s.resolves.Do(c.Context, item); err != nil {
		return nil, err
	}
	if item.refusal != nil {
		return nil, item.refusal
	}
	return api.JSON(item.reply), nil
}

// resolveBatch resolves runs: two statements for each, and one for each group.
func (s *Service) resolveBatch(tx *store.Tx, items []*resolution) error {
	o := s.begin(tx)
	load := loadTask
	if s.sets {
		ids := tx.Many(setStmt.tasks)
		for _, item := range items {
			ids.Add(item.id)
		}
		found, err := loadTasks(tx, ids, nil)
		if err != nil {
			return err
		}
		load = found.get
		o.ended = tx.Many(setStmt.resolveRuns)
	}
	for _, item := range items {
		item.reply, item.refusal = nil, nil
		t, err := load(tx, item.id)
		if errors.Is(err, store.ErrNoRows) {
			item.refusal = taskNotFound(item.id)
			continue
		}
		if err != nil {
			return err
		}
		r := t.run(item.runID)
		if r == nil {
			item.refusal = runNotFound(item.id, item.runID)
			continue
		}
		if item.state == exception {
			err = o.reportException(t, r, item)
		} else {
			err = o.report(t, r, item)
		}
		if err != nil {
			return err
		}
		if item.refusal == nil {
			item.reply = t.statusReply()
			item.audit(tx)
		}
	}
	return o.finish()
}

// report resolves a run as completed or failed. A repetition is told again.
func (o *op) report(t *task, r *run, item *resolution) error {
	switch {
	case r.state != running && r.state != item.state:
		item.refusal = conflict("Run %d of task `%s` is not running or %s.", r.id, t.id, item.state)
	case r != &t.last:
		item.refusal = notRunning(t.id, r.id)
	case r.state == running:
		_, err := o.resolve(t, item.state, item.why)
		return err
	default:
		o.publishResolved(t, r)
		return o.resolved(t, false)
	}
	return nil
}

// reportException resolves a run without a verdict. A repetition for the same
// reason is told again while at most one run followed.
func (o *op) reportException(t *task, r *run, item *resolution) error {
	switch {
	case r == &t.last && r.state == running:
		_, err := o.resolve(t, exception, item.why)
		return err
	case r.state != exception || r.reasonResolved != item.why || r.id < t.last.id-1:
		item.refusal = notRunning(t.id, r.id)
		return nil
	}
	o.publishResolved(t, r)
	retried := t.last.reasonCreated == reasonRetry || t.last.reasonCreated == reasonTaskRetry
	switch {
	case r == &t.last:
		return o.resolved(t, false)
	case t.state() == pending && retried:
		o.publishPending(t)
	}
	return nil
}
