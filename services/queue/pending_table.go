package queue

import (
	"errors"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// tableStmt are the statements over the order of pending runs in the database.
// See the migration 0004_pending for the tables.
var tableStmt = struct {
	insert, remove, lower, advance *store.Stmt
	key, setKey, dropKey           *store.Stmt
	class, nextClass, inClass      *store.Stmt
	block                          *store.Stmt
	ahead, waiting                 *store.Stmt
	attention                      *store.Stmt
	forgetHeads                    *store.Stmt
}{
	insert: store.Each("", `INSERT INTO pending_runs
			(task, task_queue_id, rank, scheduled, deadline, concurrency_key, concurrency_limit, blocked)
		SELECT task, queue, rank, scheduled, deadline, key, lim, CASE WHEN lim > 0 THEN 1 ELSE 0 END
		FROM unnest(CAST(? AS BIGINT[]), CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]),
			CAST(? AS TEXT[]), CAST(? AS BIGINT[])) AS u (task, queue, rank, scheduled, deadline, key, lim)
		ON CONFLICT (task) DO UPDATE SET rank = excluded.rank, scheduled = excluded.scheduled, blocked = excluded.blocked`),
	remove: store.Each("", `DELETE FROM pending_runs WHERE task = ANY(CAST(? AS BIGINT[]))`),
	lower: store.Each("", `INSERT INTO pending_heads (task_queue_id, rank, scheduled, task)
		SELECT queue, rank, scheduled, task
		FROM unnest(CAST(? AS TEXT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[]), CAST(? AS BIGINT[])) AS u (queue, rank, scheduled, task)
		WHERE NOT EXISTS (SELECT 1 FROM pending_heads h WHERE h.task_queue_id = u.queue AND h.rank = u.rank
			AND (h.scheduled, h.task) <= (u.scheduled, u.task))
		ON CONFLICT (task_queue_id, rank) DO UPDATE SET scheduled = excluded.scheduled, task = excluded.task`),
	advance: store.OnlyPostgres(`UPDATE pending_heads h SET (scheduled, task) = (
			SELECT COALESCE(MAX(f.scheduled), 9223372036854775807), COALESCE(MAX(f.task), 0)
			FROM (SELECT r.scheduled, r.task FROM pending_runs r WHERE r.blocked = 0
				AND r.task_queue_id = h.task_queue_id AND r.rank = h.rank AND (r.scheduled, r.task) >= (h.scheduled, h.task)
				ORDER BY r.scheduled, r.task LIMIT 1) AS f)
		WHERE h.task_queue_id = ?`),
	key: store.OnlyPostgres(`SELECT live FROM concurrency_keys WHERE concurrency_key = ?`),
	setKey: store.OnlyPostgres(`INSERT INTO concurrency_keys (concurrency_key, live) VALUES (?, ?)
		ON CONFLICT (concurrency_key) DO UPDATE SET live = excluded.live`),
	dropKey: store.OnlyPostgres(`DELETE FROM concurrency_keys WHERE concurrency_key = ?`),
	class: store.OnlyPostgres(`(SELECT task, rank, scheduled, blocked FROM pending_runs WHERE concurrency_limit > 0
			AND concurrency_key = ? AND concurrency_limit = ? AND task_queue_id = ? ORDER BY rank, scheduled, task LIMIT 1)
		UNION ALL SELECT task, rank, scheduled, blocked FROM pending_runs WHERE concurrency_limit > 0
			AND concurrency_key = ? AND concurrency_limit = ? AND task_queue_id = ? AND blocked = 0`),
	nextClass: store.OnlyPostgres(`SELECT concurrency_limit, task_queue_id FROM pending_runs WHERE concurrency_limit > 0
		AND concurrency_key = ? AND (concurrency_limit, task_queue_id) > (?, ?) AND concurrency_limit <= ?
		ORDER BY concurrency_limit, task_queue_id LIMIT 1`),
	inClass: store.OnlyPostgres(`SELECT task, rank, scheduled FROM pending_runs WHERE concurrency_limit > 0
		AND concurrency_key = ? AND concurrency_limit = ? AND task_queue_id = ? AND deadline > ? ORDER BY rank, scheduled, task LIMIT ?`),
	block: store.OnlyPostgres(`UPDATE pending_runs SET blocked = ? WHERE task = ?`),

	ahead: store.OnlyPostgres(`SELECT COUNT(*) FROM (SELECT 1 FROM pending_runs WHERE blocked = 0
		AND task_queue_id = ? AND (rank, scheduled, task) < (?, ?, ?) LIMIT ?) AS a`),
	waiting: store.Each("", `SELECT u.queue, (SELECT COUNT(*) FROM (SELECT 1 FROM pending_heads h CROSS JOIN LATERAL (
			SELECT 1 FROM pending_runs r WHERE r.blocked = 0 AND r.task_queue_id = h.task_queue_id AND r.rank = h.rank
			AND (r.scheduled, r.task) >= (h.scheduled, h.task) AND r.deadline > ? LIMIT 1000) AS p
			WHERE h.task_queue_id = u.queue LIMIT 1000) AS n)
		FROM unnest(CAST(? AS TEXT[])) AS u (queue)`),
	attention: store.OnlyPostgres(`SELECT COALESCE((SELECT due FROM tasks WHERE due IS NOT NULL ORDER BY due LIMIT 1), 0),
		EXISTS (SELECT 1 FROM dependency_releases)`),
	forgetHeads: store.OnlyPostgres(`DELETE FROM pending_heads WHERE task_queue_id = ?
		AND NOT EXISTS (SELECT 1 FROM queue_counts c WHERE c.task_queue_id = pending_heads.task_queue_id)`),
}

// class is what runs have in common that wait for the same: a key, its limit,
// and the task queue.
type class struct {
	key   string
	limit int
	queue string
}

// head is a place in the order of a task queue and rank.
type head struct {
	queue string
	rank  int64
}

// spot is where a run stands.
type spot struct {
	scheduled clock.Time
	row       int64
}

func (a spot) before(b spot) bool { return heapItem(a).before(heapItem(b)) }

// tableChange gathers what a flush writes.
type tableChange struct {
	c      *collected
	gone   []int64
	fresh  map[int64]*pendingChange // by row, of those that are pending
	order  []int64                  // the rows of fresh
	lowest map[head]spot
	keys   map[string]int // by how much the number of live runs changes
	class  map[class]bool
}

// flush writes what changed since the last flush of the transaction, so that
// the tables of the order agree with the tasks.
func (p *databaseRuns) flush(tx *store.Tx, c *collected) error {
	if len(c.changes) == 0 {
		return nil
	}
	w := tableChange{c: c, fresh: make(map[int64]*pendingChange, len(c.changes)), lowest: map[head]spot{}}
	for i := range c.changes {
		w.add(&c.changes[i])
	}
	defer func() {
		clear(c.changes)
		c.changes = c.changes[:0]
	}()
	if len(w.gone) > 0 {
		remove := tx.Many(tableStmt.remove)
		for _, row := range w.gone {
			remove.Add(row)
		}
		if err := remove.Send(); err != nil {
			return err
		}
	}
	if err := w.insert(tx); err != nil {
		return err
	}
	for key, by := range w.keys {
		if err := w.count(tx, key, by); err != nil {
			return err
		}
	}
	for cl := range w.class {
		live, err := liveRuns(tx, cl.key)
		if err != nil {
			return err
		}
		if err := w.settle(tx, cl, live); err != nil {
			return err
		}
	}
	return w.lower(tx)
}

func (w *tableChange) add(ch *pendingChange) {
	if ch.queue == "" {
		if w.fresh[ch.row] != nil {
			delete(w.fresh, ch.row)
		}
		if !ch.ended {
			w.gone = append(w.gone, ch.row)
		}
	} else {
		if w.fresh[ch.row] == nil {
			w.order = append(w.order, ch.row)
		}
		w.fresh[ch.row] = ch
	}
	if ch.limit == nil {
		return
	}
	by := 0
	if ch.running {
		by++
	}
	if ch.ended {
		by--
	}
	if w.keys == nil {
		w.keys, w.class = map[string]int{}, map[class]bool{}
	}
	w.keys[ch.limit.key] += by
	w.class[class{ch.limit.key, ch.limit.limit, ch.of}] = true
}

// insert writes the runs that are pending. Those with a key stand aside until
// they are settled.
func (w *tableChange) insert(tx *store.Tx) error {
	insert := tx.Many(tableStmt.insert)
	for _, row := range w.order {
		ch := w.fresh[row]
		if ch == nil {
			continue
		}
		delete(w.fresh, row) // it may be in order twice
		rank := ch.priority.rank()
		key, limit := ch.limit.columns()
		insert.Add(row, ch.queue, rank, ch.scheduled, ch.deadline, key, limit)
		if ch.limit == nil {
			w.stands(ch.queue, rank, spot{ch.scheduled, row})
			if ch.fresh {
				w.c.woken[ch.queue]++
			}
		}
	}
	return insert.Send()
}

// stands notes that a run has come into the order.
func (w *tableChange) stands(queue string, rank int64, at spot) {
	h := head{queue, rank}
	if was, ok := w.lowest[h]; !ok || at.before(was) {
		w.lowest[h] = at
	}
}

// lower moves the places where claims begin down to what has come into the order.
func (w *tableChange) lower(tx *store.Tx) error {
	lower := tx.Many(tableStmt.lower)
	for h, at := range w.lowest {
		lower.Add(h.queue, h.rank, at.scheduled, at.row)
	}
	return lower.Send()
}

// count changes the number of live runs of a key, and settles the classes that
// this makes a difference for: those whose limit it crosses.
func (w *tableChange) count(tx *store.Tx, key string, by int) error {
	if by == 0 {
		return nil
	}
	was, err := liveRuns(tx, key)
	if err != nil {
		return err
	}
	is := was + by
	if is > 0 {
		_, err = tx.Exec(tableStmt.setKey, key, is)
	} else {
		_, err = tx.Exec(tableStmt.dropKey, key)
	}
	if err != nil {
		return err
	}
	// One is full from its limit on.
	at, most := class{key: key, limit: min(was, is), queue: "\x7f"}, max(was, is)
	for {
		err := tx.Row(tableStmt.nextClass, key, at.limit, at.queue, most).Scan(&at.limit, &at.queue)
		if errors.Is(err, store.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		w.class[at] = true
	}
}

// settle has the first run of a class stand in the order, and no other, when
// the limit admits one more live run.
func (w *tableChange) settle(tx *store.Tx, cl class, live int) error {
	type entry struct {
		row, rank int64
		scheduled clock.Time
		blocked   bool
	}
	var list []entry
	rows := tx.Query(tableStmt.class, cl.key, cl.limit, cl.queue, cl.key, cl.limit, cl.queue)
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.row, &e.rank, &e.scheduled, &e.blocked); err != nil {
			return err
		}
		list = append(list, e)
	}
	rows.Close()
	if err := rows.Err(); err != nil || len(list) == 0 {
		return err
	}
	first := list[0] // and again if it stands in the order
	admits := live < cl.limit
	for _, e := range list[1:] {
		if e.row != first.row || !admits {
			if _, err := tx.Exec(tableStmt.block, true, e.row); err != nil {
				return err
			}
		}
	}
	if !admits || !first.blocked {
		return nil
	}
	w.stands(cl.queue, first.rank, spot{first.scheduled, first.row})
	w.c.woken[cl.queue]++
	_, err := tx.Exec(tableStmt.block, false, first.row)
	return err
}

// liveRuns is the number of live runs of a key.
func liveRuns(tx *store.Tx, key string) (n int, err error) {
	err = tx.Row(tableStmt.key, key).Scan(&n)
	if errors.Is(err, store.ErrNoRows) {
		return 0, nil
	}
	return n, err
}

// rank orders like the priority, the best first.
func (p priority) rank() int64 { return -int64(p) }
