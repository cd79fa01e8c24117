package queue

import (
	"errors"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// releaseChunk is how many dependents one transaction releases. The rest is
// left to a loop, so that a task with thousands of them never stalls the
// writer; a row in dependency_releases makes sure that it happens.
const releaseChunk = 200

// releaseDependents satisfies the dependencies on a task that was resolved,
// and schedules the tasks that waited for nothing else.
func (o *op) releaseDependents(t *task) error {
	last, more, err := o.releaseAfter(t.row, t.state() == completed, 0, releaseChunk)
	if err != nil || !more {
		return err
	}
	o.c.release = true
	_, err = o.tx.Exec(stmt.insertRelease, t.row, t.state() == completed, last)
	return err
}

// releaseAfter satisfies up to limit dependencies on a task, in the order of
// the dependents' rows, beginning after one. It returns the last one.
func (o *op) releaseAfter(required int64, completed bool, after int64, limit int) (last int64, more bool, err error) {
	requires := 1 // all-resolved only
	if completed {
		requires = 0
	}
	dependents := make([]int64, 0, 8)
	rows := o.tx.Query(stmt.openDependents, required, after, o.now, requires, limit+1)
	for rows.Next() {
		var row int64
		if err := rows.Scan(&row); err != nil {
			return 0, false, err
		}
		dependents = append(dependents, row)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return 0, false, err
	}
	if more = len(dependents) > limit; more {
		dependents = dependents[:limit]
	}
	for _, row := range dependents {
		if err := o.satisfy(required, row); err != nil {
			return 0, false, err
		}
		last = row
	}
	return last, more, nil
}

// satisfy notes that a dependency is satisfied, for good, and schedules the
// dependent if it was the last one and its deadline is still to come.
func (o *op) satisfy(required int64, dependent int64) error {
	if _, err := o.tx.Exec(stmt.satisfy, required, dependent); err != nil {
		return err
	}
	var unsatisfied int
	var st int64
	var deadline clock.Time
	err := o.tx.Row(stmt.unblock, dependent).Scan(&unsatisfied, &st, &deadline)
	if errors.Is(err, store.ErrNoRows) {
		return nil // expired meanwhile
	}
	if err != nil || unsatisfied > 0 || state(st) != unscheduled || deadline <= o.now {
		return err
	}
	t, err := loadRow(o.tx, dependent)
	if err != nil {
		return err
	}
	return o.makePending(t, reasonScheduled)
}

// releaseMore releases the next chunk of dependents that is left over, and
// tells whether there may be another one.
func (s *Service) releaseMore(tx *store.Tx) (more bool, err error) {
	var id, required, after int64
	var done bool
	err = tx.Row(stmt.nextRelease).Scan(&id, &required, &done, &after)
	if errors.Is(err, store.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	o := s.begin(tx)
	last, rest, err := o.releaseAfter(required, done, after, releaseChunk)
	if err != nil {
		return false, err
	}
	if rest {
		_, err = tx.Exec(stmt.moveRelease, last, id)
	} else {
		_, err = tx.Exec(stmt.deleteRelease, id)
	}
	if err != nil {
		return false, err
	}
	return true, o.finish()
}
