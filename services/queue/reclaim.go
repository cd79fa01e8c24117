package queue

import (
	"errors"

	"taskcluster/internal/api"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

// reclaimItem extends one claim, on its way through the batch.
type reclaimItem struct {
	id    slugid.ID
	runID int
	audit func(*store.Tx)

	claim   claim
	refusal error
}

func (s *Service) reclaimTask(c *api.Call) (any, error) {
	id, runID, err := authorizeRun(c)
	if err != nil {
		return nil, err
	}
	item := &reclaimItem{id: id, runID: runID, audit: c.Audit}
	if err := s.reclaims.Do(c.Context, item); err != nil {
		return nil, err
	}
	if item.refusal != nil {
		return nil, item.refusal
	}
	t := item.claim.task
	if err := s.see(c.Context, t.queue, workerName{t.last.workerGroup, t.last.workerID}); err != nil {
		// The claim is extended all the same, and the worker must learn that.
		s.logger.Warn("it could not be noted that a worker was seen", "error", err)
	}
	b := make([]byte, 0, item.claim.size())
	b = t.appendStatus(append(b, `{"status":`...))
	b = appendRunID(b, runID)
	b = t.last.appendWorker(b)
	b = appendTime(b, "takenUntil", t.last.takenUntil)
	b, err = s.appendCredentials(b, t, item.claim.definition.scopes())
	return api.JSON(append(b, '}')), err
}

// authorizeRun authorizes a worker for the run that the URL names, a second
// time: the framework did it with the text of runId, which may have zeros in
// front.
func authorizeRun(c *api.Call) (slugid.ID, int, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return id, 0, err
	}
	runID := parseRunID(c.Param("runId"))
	return id, runID, c.Authorize(map[string]any{"taskId": c.Param("taskId"), "runId": runID})
}

// reclaimBatch extends claims, two statements for each. No message tells of it.
func (s *Service) reclaimBatch(tx *store.Tx, items []*reclaimItem) error {
	o := s.begin(tx)
	until := o.takenUntil()
	load := loadClaimable
	var write *store.Many
	if s.sets {
		ids, defs := tx.Many(setStmt.claimableByID), map[slugid.ID]stored{}
		for _, item := range items {
			ids.Add(item.id)
		}
		found, err := loadTasks(tx, ids, defs)
		if err != nil {
			return err
		}
		load = func(tx *store.Tx, id slugid.ID) (*task, stored, error) {
			t, err := found.get(tx, id)
			return t, defs[id], err
		}
		write = tx.Many(setStmt.reclaimRuns)
	}
	for _, item := range items {
		item.refusal, item.claim = nil, claim{}
		t, def, err := load(tx, item.id)
		if errors.Is(err, store.ErrNoRows) {
			item.refusal = taskNotFound(item.id)
			continue
		}
		if err != nil {
			return err
		}
		r := t.run(item.runID)
		switch {
		case r == nil:
			item.refusal = runNotFound(item.id, item.runID)
		case t.deadline <= o.now:
			item.refusal = conflict("Task `%s` can't be reclaimed past its deadline of %s.", t.id, t.deadline)
		case r != &t.last || r.state != running:
			item.refusal = notRunning(item.id, item.runID)
		}
		if item.refusal != nil {
			continue
		}
		r.takenUntil = max(r.takenUntil, until)
		if write != nil {
			o.touch(t.id)
			write.Add(r.takenUntil, t.due(), t.row)
		} else if err := o.write(t.id, stmt.reclaimRun, r.takenUntil, t.due(), t.row); err != nil {
			return err
		}
		o.timer(t)
		item.claim = claim{t, def}
		item.audit(tx)
	}
	if write != nil {
		return write.Send()
	}
	return nil
}

// loadClaimable reads a task and its definition.
func loadClaimable(tx *store.Tx, id slugid.ID) (*task, stored, error) {
	t, def := new(task), stored{}
	if err := scanTask(tx.Row(stmt.claimableByID, id), t, &def.at, &def.text); err != nil {
		return nil, def, err
	}
	return t, def, t.loadPast(tx)
}

func notRunning(id slugid.ID, runID int) error {
	return conflict("Run %d on task `%s` is resolved or not running.", runID, id)
}
