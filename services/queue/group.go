package queue

import (
	"context"
	"errors"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// group is a task group.
type group struct {
	row       int64 // task_groups.id
	id        slugid.ID
	scheduler string
	expires   clock.Time
	sealed    clock.Time // 0: not sealed
	total     int        // tasks
}

// groupChunk is how many tasks of a group one transaction changes.
const groupChunk = 200

// appendMembers appends the published members, without braces.
func (g *group) appendMembers(b []byte) []byte {
	b = append(b, `"taskGroupId":"`...)
	b = g.id.AppendTo(b)
	b = append(b, `","schedulerId":"`...)
	b = append(b, g.scheduler...)
	b = appendTime(append(b, '"'), "expires", g.expires)
	return appendTime(b, "sealed", g.sealed)
}

func (g *group) reply() (any, error) {
	return api.JSON(append(g.appendMembers([]byte{'{'}), '}')), nil
}

// loadGroup reads a group; store.ErrNoRows when there is none.
func loadGroup(tx *store.Tx, id slugid.ID) (*group, error) {
	g := &group{id: id}
	return g, tx.Row(stmt.group, id).Scan(&g.row, &g.scheduler, &g.expires, &g.sealed, &g.total)
}

func (s *Service) readGroup(ctx context.Context, id slugid.ID) (g *group, err error) {
	err = s.store.ReadOne(ctx, func(tx *store.Tx) error {
		g, err = loadGroup(tx, id)
		return err
	})
	return g, groupError(id, err)
}

func groupError(id slugid.ID, err error) error {
	if errors.Is(err, store.ErrNoRows) {
		return tcerr.New(tcerr.ResourceNotFound, "No task-group with taskGroupId: `%s`", id)
	}
	return err
}

func (s *Service) getTaskGroup(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskGroupId"))
	if err != nil {
		return nil, err
	}
	g, err := s.readGroup(c.Context, id)
	if err != nil {
		return nil, err
	}
	return g.reply()
}

// listTaskGroup lists a group in the order in which its tasks were created,
// which also holds while tasks are added between two pages.
func (s *Service) listTaskGroup(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskGroupId"))
	if err != nil {
		return nil, err
	}
	limit, token := c.Page()
	var b []byte
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		g, err := loadGroup(tx, id)
		if err != nil {
			return err
		}
		after, err := strictRowToken(token)
		if err != nil {
			return err
		}
		b = append(g.appendMembers([]byte{'{'}), `,"tasks":[`...)
		if limit > 0 {
			b, err = appendTaskPage(tx, b, limit, tx.Query(stmt.groupTasks, g.row, after, limit+1))
		} else {
			b = append(b, ']')
		}
		b = append(b, '}')
		return err
	})
	return api.JSON(b), groupError(id, err)
}

// appendTaskPage appends the rest of a list of {status, task}, and a
// continuation token when rows has more than limit, or than a page holds.
func appendTaskPage(tx *store.Tx, b []byte, limit int, rows *store.Rows) ([]byte, error) {
	defer rows.Close()
	var last int64
	n := 0
	for rows.Next() {
		t, def := new(task), stored{}
		if err := scanTask(rows, t, &def.at, &def.text); err != nil {
			return nil, err
		}
		if n++; n > limit || len(b) > maxPageBytes {
			return appendToken(append(b, ']'), rowToken(last)), nil
		}
		if err := t.loadPast(tx); err != nil {
			return nil, err
		}
		if n > 1 {
			b = append(b, ',')
		}
		def.priority, last = t.priority, t.row
		b = t.appendStatus(append(b, `{"status":`...))
		b = def.appendTo(append(b, `,"task":`...))
		b = append(b, '}')
	}
	return append(b, ']'), rows.Err()
}

// rowsOf reads rows of one number each.
func rowsOf(rows *store.Rows) (list []int64, err error) {
	defer rows.Close()
	for rows.Next() {
		var row int64
		if err := rows.Scan(&row); err != nil {
			return nil, err
		}
		list = append(list, row)
	}
	return list, rows.Err()
}

// sealTaskGroup closes a group to new tasks, once and for all.
func (s *Service) sealTaskGroup(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskGroupId"))
	if err != nil {
		return nil, err
	}
	g, err := s.readGroup(c.Context, id)
	if err != nil {
		return nil, err
	}
	if err := c.Authorize(map[string]any{"schedulerId": g.scheduler, "taskGroupId": id.String()}); err != nil {
		return nil, err
	}
	err = s.store.Write(c.Context, func(tx *store.Tx) error {
		if _, err := tx.Exec(stmt.sealGroup, tx.Now().Truncate(), g.row); err != nil {
			return err
		}
		if g, err = loadGroup(tx, id); err != nil {
			return err
		}
		o := s.begin(tx)
		o.publishGroup("task-group-sealed", g)
		c.Audit(tx)
		return o.finish()
	})
	if err != nil {
		return nil, groupError(id, err)
	}
	return g.reply()
}

// cancelTaskGroup cancels what is not resolved of a sealed group, in chunks,
// each of them a transaction. A crash in between leaves the rest to the
// caller's next try.
func (s *Service) cancelTaskGroup(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskGroupId"))
	if err != nil {
		return nil, err
	}
	g, err := s.readGroup(c.Context, id)
	if err != nil {
		return nil, err
	}
	if g.sealed.IsZero() {
		return nil, conflict("Task group `%s` must be sealed before it can be canceled.", id)
	}
	if err := c.Authorize(map[string]any{"schedulerId": g.scheduler, "taskGroupId": id.String()}); err != nil {
		return nil, err
	}
	canceled := []slugid.ID{}
	for after := int64(0); after >= 0; {
		var chunk []slugid.ID
		next := int64(-1)
		err := s.store.Write(c.Context, func(tx *store.Tx) error {
			chunk, next = nil, -1
			rows, err := rowsOf(tx.Query(stmt.groupUnresolved, g.row, after, tx.Now(), groupChunk))
			if err != nil {
				return err
			}
			o := s.begin(tx)
			for _, row := range rows {
				t, err := loadRow(tx, row)
				if err != nil {
					return err
				}
				if err := o.end(t, reasonCanceled); err != nil {
					return err
				}
				chunk = append(chunk, t.id)
			}
			if len(rows) == groupChunk {
				next = rows[len(rows)-1]
			} else {
				c.Audit(tx)
			}
			return o.finish()
		})
		if err != nil {
			return nil, err
		}
		canceled = append(canceled, chunk...)
		after = next
	}
	return &CancelTaskGroupResponse{TaskGroupID: id.String(), TaskGroupSize: int64(g.total),
		CancelledCount: int64(len(canceled)), TaskIDs: texts(canceled)}, nil
}
