package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// maxPageBytes ends a page of definitions, which is then short: each may have
// some megabytes, and a page lives in memory as a whole.
const maxPageBytes = 16 << 20

// readDefinition reads a task's definition; store.ErrNoRows when there is none.
func readDefinition(tx *store.Tx, id slugid.ID) (d stored, err error) {
	var p int64
	err = tx.Row(stmt.definition, id).Scan(&p, &d.at, &d.text)
	d.priority = priority(p)
	return d, err
}

func (s *Service) task(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	var d stored
	err = s.store.ReadOne(c.Context, func(tx *store.Tx) error {
		d, err = readDefinition(tx, id)
		return err
	})
	if errors.Is(err, store.ErrNoRows) {
		return nil, tcerr.New(tcerr.ResourceNotFound, "`%s` does not correspond to a task that exists.\nAre you sure this task has already been submitted?", id)
	}
	if err != nil {
		return nil, err
	}
	return api.JSON(d.appendTo(make([]byte, 0, len(d.text)+32))), nil
}

func (s *Service) status(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	answer, err := s.showStatus(c.Context, id)
	return api.JSON(answer), err
}

// showStatus is the answer about the status of a task.
func (s *Service) showStatus(ctx context.Context, id slugid.ID) ([]byte, error) {
	answer, version := s.shown.get(id)
	if answer != nil {
		return answer, nil
	}
	t, err := s.readTask(ctx, id)
	if err != nil {
		return nil, err
	}
	answer = slices.Clone(t.statusReply()) // without the room to grow
	s.shown.keep(id, version, answer)
	return answer, nil
}

// tasks answers with many definitions at once.
func (s *Service) tasks(c *api.Call, in *TasksRequest) (any, error) {
	return s.many(c, in, "tasks", func(tx *store.Tx, b []byte, id slugid.ID) ([]byte, error) {
		d, err := readDefinition(tx, id)
		if err != nil {
			return nil, err
		}
		return d.appendTo(append(b, `,"task":`...)), nil
	})
}

// statuses answers with many statuses at once.
func (s *Service) statuses(c *api.Call, in *TasksRequest) (any, error) {
	return s.many(c, in, "statuses", func(tx *store.Tx, b []byte, id slugid.ID) ([]byte, error) {
		t, err := loadTask(tx, id)
		if err != nil {
			return nil, err
		}
		return t.appendStatus(append(b, `,"status":`...)), nil
	})
}

// many answers about each of a list of tasks, in the order of the list. Those
// that do not exist are left out, and so are repetitions. A continuation token
// is the place in the list. A page also ends after api.MaxPage look-ups, so that
// a long list of strangers does not keep a reader busy, and at maxPageBytes; it
// may then be short.
func (s *Service) many(c *api.Call, in *TasksRequest, name string, appendOne func(tx *store.Tx, b []byte, id slugid.ID) ([]byte, error)) (any, error) {
	if err := c.Authorize(map[string]any{"taskIds": in.TaskIDs}); err != nil {
		return nil, err
	}
	limit, token := c.Page()
	place, err := strictRowToken(token)
	if err != nil {
		return nil, err
	}
	from := int(min(place, int64(len(in.TaskIDs))))
	b := fmt.Appendf(nil, `{"%s":[`, name)
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		seen := map[string]bool{}
		for _, text := range in.TaskIDs[:from] {
			seen[text] = true
		}
		n, i := 0, from
		for looked := 0; i < len(in.TaskIDs) && n < limit && looked < api.MaxPage && len(b) <= maxPageBytes; i++ {
			text := in.TaskIDs[i]
			id, err := slugid.Parse(text)
			if err != nil || seen[text] {
				continue
			}
			seen[text] = true
			looked++
			start := len(b)
			if n > 0 {
				b = append(b, ',')
			}
			b = append(append(b, `{"taskId":"`...), text...)
			out, err := appendOne(tx, append(b, '"'), id)
			if errors.Is(err, store.ErrNoRows) {
				b = b[:start]
				continue
			}
			if err != nil {
				return err
			}
			b = append(out, '}')
			n++
		}
		b = append(b, ']')
		if i < len(in.TaskIDs) && limit > 0 {
			b = appendToken(b, rowToken(int64(i)))
		}
		b = append(b, '}')
		return nil
	})
	return api.JSON(b), err
}

// listDependentTasks lists the tasks that depend on one, in the order in which
// they were created.
func (s *Service) listDependentTasks(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	limit, token := c.Page()
	b := append(id.AppendTo([]byte(`{"taskId":"`)), `","tasks":[`...)
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		t, err := loadTask(tx, id)
		if err != nil {
			return err
		}
		after, err := strictRowToken(token)
		if err != nil {
			return err
		}
		if limit == 0 {
			b = append(b, ']')
			return nil
		}
		b, err = appendTaskPage(tx, b, limit, tx.Query(stmt.listDependents, t.row, after, s.clock.Now(), limit+1))
		return err
	})
	if errors.Is(err, store.ErrNoRows) {
		return nil, taskNotFound(id)
	}
	return api.JSON(append(b, '}')), err
}

// readCounts reads the counters of a task queue; one that was never used has
// nothing.
func (s *Service) readCounts(c *api.Call) (pending, running int, err error) {
	err = s.store.ReadOne(c.Context, func(tx *store.Tx) error {
		err := tx.Row(stmt.counts, c.Param("taskQueueId")).Scan(&pending, &running)
		if errors.Is(err, store.ErrNoRows) {
			return nil
		}
		return err
	})
	return pending, running, err
}

func (s *Service) pendingTasks(c *api.Call) (any, error) {
	pending, _, err := s.readCounts(c)
	if err != nil {
		return nil, err
	}
	provisioner, workerType := splitQueue(c.Param("taskQueueId"))
	return &PendingTasksResponse{ProvisionerID: provisioner, WorkerType: workerType,
		TaskQueueID: c.Param("taskQueueId"), PendingTasks: int64(pending)}, nil
}

func (s *Service) taskQueueCounts(c *api.Call) (any, error) {
	pending, running, err := s.readCounts(c)
	if err != nil {
		return nil, err
	}
	provisioner, workerType := splitQueue(c.Param("taskQueueId"))
	return &TaskQueueCountsResponse{ProvisionerID: provisioner, WorkerType: workerType,
		TaskQueueID: c.Param("taskQueueId"), PendingTasks: int64(pending), ClaimedTasks: int64(running)}, nil
}

func (s *Service) listPendingTasks(c *api.Call) (any, error) {
	return s.listQueue(c, stmt.listPending, "inserted", false)
}

func (s *Service) listClaimedTasks(c *api.Call) (any, error) {
	return s.listQueue(c, stmt.listRunning, "claimed", true)
}

// listQueue lists the pending or running tasks of a task queue, by the time at
// which they became so, with their definitions.
func (s *Service) listQueue(c *api.Call, query *store.Stmt, since string, worker bool) (any, error) {
	limit, token := c.Page()
	at, row := laxTimeToken(token)
	b := []byte(`{"tasks":[`)
	err := s.store.Read(c.Context, func(tx *store.Tx) error {
		rows := tx.Query(query, c.Param("taskQueueId"), at, row, limit+1)
		defer rows.Close()
		for n := 0; limit > 0 && rows.Next(); n++ {
			var id slugid.ID
			var r run
			var p, rowHere int64
			var when clock.Time
			var d stored
			dest := []any{&id, &r.id, &when, &rowHere}
			if worker {
				dest = append(dest, &r.workerGroup, &r.workerID)
			}
			if err := rows.Scan(append(dest, &p, &d.at, &d.text)...); err != nil {
				return err
			}
			if n == limit || len(b) > maxPageBytes {
				b = append(b, ']')
				b = appendToken(b, timeToken(at, row))
				b = append(b, '}')
				return nil
			}
			if n > 0 {
				b = append(b, ',')
			}
			d.priority, at, row = priority(p), when, rowHere
			b = id.AppendTo(append(b, `{"taskId":"`...))
			b = appendRunID(append(b, '"'), r.id)
			b = r.appendWorker(b)
			b = appendTime(b, since, when)
			b = append(d.appendTo(append(b, `,"task":`...)), '}')
		}
		b = append(b, "]}"...)
		return rows.Err()
	})
	return api.JSON(b), err
}
