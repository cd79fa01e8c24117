package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// claimItem is one caller's attempt to claim runs, on its way through the batch.
type claimItem struct {
	ctx    context.Context // of the caller
	queue  string
	worker workerName
	runs   []pendingRun // that were taken from memory
	n      int          // how many the database shall look for
	audit  func(*store.Tx)

	claims []claim
	gone   bool // the caller went away first, nothing was claimed
}

// claim is a run that was claimed: its task, as it is now, and definition.
type claim struct {
	task       *task
	definition stored
}

func (s *Service) claimWork(c *api.Call, in *ClaimWorkRequest) (any, error) {
	queue := c.Param("taskQueueId")
	err := c.Authorize(map[string]any{"taskQueueId": queue, "workerGroup": in.WorkerGroup, "workerId": in.WorkerID})
	if err != nil {
		return nil, err
	}
	claims, err := s.waitForWork(c.Context, queue, workerName{in.WorkerGroup, in.WorkerID}, int(in.Tasks), c.Audit)
	if err != nil {
		return nil, err
	}
	size := 16
	for i := range claims {
		size += claims[i].size()
	}
	b := append(make([]byte, 0, size), `{"tasks":[`...)
	for i := range claims {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = s.appendClaim(b, &claims[i]); err != nil {
			return nil, err
		}
	}
	return api.JSON(append(b, "]}"...)), nil
}

// waitForWork claims up to n runs, and waits for the first one if there is
// none. It returns nothing after the time of the long poll, or for a worker in
// quarantine.
func (s *Service) waitForWork(ctx context.Context, queue string, w workerName, n int, audit func(*store.Tx)) ([]claim, error) {
	if err := s.see(ctx, queue, w); err != nil {
		return nil, err
	}
	search := s.pending.enter(queue, n)
	defer search.leave()
	var timeout <-chan struct{}
	for over := false; ; {
		if s.workers.quarantined(workerKey{queue, w}, s.clock.Now()) { // perhaps since it waits
			search.leave()
			return nil, s.sitOut(ctx, timeout)
		}
		claims, err := search.claim(ctx, w, audit)
		if err != nil || len(claims) > 0 || over {
			return claims, err
		}
		if timeout == nil {
			ch, cancel := s.clock.After(s.clock.Now().Add(s.longPoll))
			defer cancel()
			timeout = ch
		}
		select {
		case <-search.woken():
		case <-timeout:
			select {
			case <-search.woken(): // at the last moment
				over = true
			default:
				return nil, nil
			}
		case <-s.stopping:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// sitOut waits for the end of the long poll, which is all that a worker in
// quarantine gets. timeout is nil if the worker has not waited yet.
func (s *Service) sitOut(ctx context.Context, timeout <-chan struct{}) error {
	if timeout == nil {
		ch, cancel := s.clock.After(s.clock.Now().Add(s.longPoll))
		defer cancel()
		timeout = ch
	}
	select {
	case <-timeout:
	case <-s.stopping:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// claimBatch claims runs: two statements for each, and one for each caller.
func (s *Service) claimBatch(tx *store.Tx, items []*claimItem) error {
	o := s.begin(tx)
	until := o.takenUntil()
	for _, item := range items {
		item.claims, item.gone = nil, item.ctx.Err() != nil
		if item.gone {
			continue
		}
		item.claims = make([]claim, 0, len(item.runs))
		for _, r := range item.runs {
			t := new(task)
			var def stored
			err := scanTask(tx.Row(stmt.claimable, r.row), t, &def.at, &def.text)
			if errors.Is(err, store.ErrNoRows) {
				continue
			}
			if err == nil {
				err = t.loadPast(tx)
			}
			if err != nil {
				return err
			}
			if t.state() != pending || t.deadline <= o.now {
				continue
			}
			if err := o.claim(t, item.worker, until); err != nil {
				return err
			}
			def.priority = t.priority
			item.claims = append(item.claims, claim{t, def})
		}
		if len(item.claims) == 0 {
			continue
		}
		if err := o.recordClaims(item.queue, item.worker, item.claims); err != nil {
			return err
		}
		item.audit(tx)
	}
	return o.finish()
}

// takenUntil is when a claim made now expires.
func (o *op) takenUntil() clock.Time { return o.now.Add(o.s.claimTimeout).Truncate() }

// claim gives the last run, which is pending, to a worker.
func (o *op) claim(t *task, w workerName, until clock.Time) error {
	t.last.state, t.last.started, t.last.takenUntil = running, o.now, until
	t.last.workerGroup, t.last.workerID = w.group, w.id
	if o.claimed != nil {
		o.touch(t.id)
		o.claimed.Add(o.now, w.group, w.id, until, t.due(), t.row)
	} else if err := o.write(t.id, stmt.claimRun, o.now, w.group, w.id, until, t.due(), t.row); err != nil {
		return err
	}
	o.moved(t, pending)
	o.publishRunning(t)
	return nil
}

func (c *claim) size() int { return 2560 + 400*len(c.task.past) + len(c.definition.text) }

// appendClaim renders a claim with fresh credentials. It runs outside of the
// transaction: signing them takes longer than claiming the run.
func (s *Service) appendClaim(b []byte, c *claim) ([]byte, error) {
	b = c.task.appendStatus(append(b, `{"status":`...))
	b = appendRunID(b, c.task.last.id)
	b = c.task.last.appendWorker(b)
	b = appendTime(b, "takenUntil", c.task.last.takenUntil)
	b = c.definition.appendTo(append(b, `,"task":`...))
	b, err := s.appendCredentials(b, c.task, c.definition.scopes())
	return append(b, '}'), err
}

// claimTask is the deprecated way to claim: the worker names the run.
func (s *Service) claimTask(c *api.Call, in *TaskClaimRequest) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	runID := parseRunID(c.Param("runId"))
	t, err := s.readTask(c.Context, id)
	if err != nil {
		return nil, err
	}
	provisioner, workerType := splitQueue(t.queue)
	err = c.Authorize(map[string]any{"provisionerId": provisioner, "workerType": workerType,
		"workerGroup": in.WorkerGroup, "workerId": in.WorkerID})
	if err != nil {
		return nil, err
	}
	w := workerName{in.WorkerGroup, in.WorkerID}
	if s.workers.quarantined(workerKey{t.queue, w}, s.clock.Now()) {
		return nil, conflict("Worker %s/%s is quarantined and gets no tasks.", w.group, w.id)
	}
	if err := s.seeQueue(c.Context, t.queue); err != nil {
		return nil, err
	}
	var got claim
	row := t.row
	err = s.pending.claimOne(c.Context, t, func(tx *store.Tx, a admission) (refusal, err error) {
		t := new(task)
		got = claim{task: t}
		if err := scanTask(tx.Row(stmt.claimable, row), t, &got.definition.at, &got.definition.text); err != nil {
			return nil, err
		}
		if err := t.loadPast(tx); err != nil {
			return nil, err
		}
		got.definition.priority = t.priority
		r := t.run(runID)
		switch {
		case t.deadline <= tx.Now():
			return conflict("Task `%s` can't be claimed past its deadline at %s.", id, t.deadline), nil
		case r == nil:
			return runNotFound(id, runID), nil
		case r.id != t.last.id || r.state != pending && !(r.state == running && r.workerGroup == w.group && r.workerID == w.id):
			return conflict("Run %d was already claimed by another worker.", runID), nil
		case r.state == pending && t.concurrency != nil && a == full:
			return conflict("Task `%s` can't be claimed now: %d or more runs with its concurrency key %q are live, which is the limit that it sets.",
				id, t.concurrency.limit, t.concurrency.name()), nil
		case r.state == pending && t.concurrency != nil && a == elsewhere: // else a limit could be exceeded
			return conflict("Run %d is being claimed by another worker.", runID), nil
		}
		o := s.begin(tx)
		if r.state == running {
			o.publishRunning(t)
		} else {
			if err := o.claim(t, w, o.takenUntil()); err != nil {
				return nil, err
			}
			if err := o.recordClaims(t.queue, w, []claim{got}); err != nil {
				return nil, err
			}
		}
		c.Audit(tx)
		return nil, o.finish()
	})
	if err != nil {
		return nil, err
	}
	b, err := s.appendClaim(make([]byte, 0, got.size()), &got)
	return api.JSON(b), err
}

// parseRunID reads the runId of a URL, whose pattern allows any number of
// digits; what no task can have is -1.
func parseRunID(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return -1
	}
	return n
}

func conflict(format string, args ...any) error {
	return tcerr.New(tcerr.RequestConflict, format, args...)
}

func runNotFound(id slugid.ID, runID int) error {
	return tcerr.New(tcerr.ResourceNotFound, "Run %d not found on task `%s`.", runID, id)
}

func taskNotFound(id fmt.Stringer) error {
	return tcerr.New(tcerr.ResourceNotFound, "`%s` does not correspond to a task that exists.\nAre you sure this task exists?", id)
}
