package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"taskcluster/internal/events"
	"taskcluster/internal/store"
)

// The checks that every test ends with: each event ever published fits its
// schema and its exchange, and each counter is what a recount gives.

// messages are the events since the last call.
func (d *deployment) messages() []events.Message {
	d.t.Helper()
	var all []events.Message
	for {
		page, err := d.log.Read(context.Background(), d.read, 1000)
		if err != nil {
			d.t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		d.read = page[len(page)-1].Position
	}
}

// kinds are the short names of the exchanges of the events since the last call.
func (d *deployment) kinds() string {
	d.t.Helper()
	var names []string
	for _, m := range d.messages() {
		names = append(names, strings.TrimPrefix(m.Exchange, exchangePrefix))
	}
	return strings.Join(names, " ")
}

// wantEvents checks the events since the last look.
func (d *deployment) wantEvents(names ...string) {
	d.t.Helper()
	if got, want := d.kinds(), strings.Join(names, " "); got != want {
		d.t.Fatalf("events: %s\nwant:   %s", got, want)
	}
}

// checkEvents compares all events with the published schemas and exchanges.
func (d *deployment) checkEvents(t testing.TB) {
	t.Helper()
	d.read = 0
	known := map[string]events.Exchange{}
	for _, x := range exchanges() {
		known[exchangePrefix+x.Name] = x
	}
	for _, m := range d.messages() {
		x, ok := known[m.Exchange]
		if !ok {
			t.Fatalf("unknown exchange %s", m.Exchange)
		}
		sc, err := d.schemas.Schema("queue", x.Schema)
		if err != nil {
			t.Fatal(err)
		}
		_, value, problems, err := sc.Decode(m.Payload)
		if err != nil || problems != nil {
			t.Fatalf("%s does not fit %s: %v %v\n%s", m.Exchange, x.Schema, problems, err, m.Payload)
		}
		payload := value.(map[string]any)
		source := payload
		status, aboutTask := payload["status"].(map[string]any)
		if aboutTask {
			source = status
		}
		values := map[string]string{}
		for _, part := range x.Key {
			from := source
			switch part.Name {
			case "runId", "workerGroup", "workerId":
				from = payload
			}
			switch v := from[part.Name].(type) {
			case string:
				values[part.Name] = v
			case json.Number:
				values[part.Name] = v.String()
			}
		}
		key, err := x.RoutingKey(values)
		if err != nil {
			t.Fatalf("%v: %s", err, m.Payload)
		}
		if key != m.Key {
			t.Fatalf("%s: routing key %s, want %s", m.Exchange, m.Key, key)
		}
	}
}

// recount are counters made anew of the tables.
var recount = struct{ counts, counted, groups, unsatisfied *store.Stmt }{
	counts: store.SQL(`SELECT task_queue_id, SUM(CASE WHEN state = 1 THEN 1 ELSE 0 END), SUM(CASE WHEN state = 2 THEN 1 ELSE 0 END)
		FROM tasks GROUP BY task_queue_id`),
	counted: store.SQL(`SELECT task_queue_id, pending, running FROM queue_counts`),
	groups: store.SQL(`SELECT g.total, g.unresolved, COUNT(t.id), CAST(COALESCE(SUM(1 - t.ever_resolved), 0) AS BIGINT)
		FROM task_groups g LEFT JOIN tasks t ON t.group_row = g.id GROUP BY g.id`),
	unsatisfied: store.SQL(`SELECT t.unsatisfied, CAST(COALESCE(SUM(1 - x.satisfied), 0) AS BIGINT)
		FROM tasks t LEFT JOIN task_dependencies x ON x.dependent = t.id GROUP BY t.id`),
}

// checkCounters compares every counter with the rows that it counts, and the
// order in memory with the table.
func (d *deployment) checkCounters(t testing.TB) {
	t.Helper()
	err := d.store.Read(context.Background(), func(tx *store.Tx) error {
		want := map[string][2]int{}
		rows := tx.Query(recount.counts)
		for rows.Next() {
			var queue string
			var p, r int
			if err := rows.Scan(&queue, &p, &r); err != nil {
				return err
			}
			want[queue] = [2]int{p, r}
		}
		rows = tx.Query(recount.counted)
		for rows.Next() {
			var queue string
			var p, r int
			if err := rows.Scan(&queue, &p, &r); err != nil {
				return err
			}
			if want[queue] != [2]int{p, r} {
				t.Errorf("%s counts %d pending and %d running, the tasks are %v", queue, p, r, want[queue])
			}
			delete(want, queue)
		}
		for queue, n := range want {
			if n != [2]int{} {
				t.Errorf("%s has no counters, the tasks are %v", queue, n)
			}
		}
		for _, q := range []*store.Stmt{recount.groups} {
			rows = tx.Query(q)
			for rows.Next() {
				var total, unresolved, tasks, open int
				if err := rows.Scan(&total, &unresolved, &tasks, &open); err != nil {
					return err
				}
				if total != tasks || unresolved != open {
					t.Errorf("a group counts %d tasks, %d unresolved; it has %d and %d", total, unresolved, tasks, open)
				}
			}
		}
		rows = tx.Query(recount.unsatisfied)
		for rows.Next() {
			var have, want int
			if err := rows.Scan(&have, &want); err != nil {
				return err
			}
			if have != want {
				t.Errorf("a task counts %d unsatisfied dependencies, it has %d", have, want)
			}
		}
		return rows.Err()
	})
	if err != nil {
		t.Error(err)
	}
	if d.shared() {
		d.checkOrder(t)
	} else if have, want := d.order(d.memory()), d.order(d.rebuilt(t)); have != want {
		t.Errorf("pending in memory:\n%s\nin the table:\n%s", have, want)
	}
}

// shared tells whether the order is in the database.
func (d *deployment) shared() bool { return d.store.Shared() }

// memory is the order that a deployment keeps in memory.
func (d *deployment) memory() *memoryPending { return d.queue.pending.(*memoryRuns).memoryPending }

// left is what is pending, or live with a concurrency key; empty when nothing is.
func (d *deployment) left(t testing.TB) string {
	t.Helper()
	if !d.shared() {
		return d.order(d.memory())
	}
	var b strings.Builder
	err := d.store.Read(context.Background(), func(tx *store.Tx) error {
		b.Reset()
		rows := tx.Query(orderCheck.all)
		for rows.Next() {
			var row int64
			if err := rows.Scan(&row); err != nil {
				return err
			}
			fmt.Fprintln(&b, row)
		}
		return rows.Err()
	})
	if err != nil {
		t.Error(err)
	}
	return b.String()
}

// orderCheck are what must not be found in the tables of the order.
var orderCheck = struct{ all, rows, keys, firsts, heads *store.Stmt }{
	all: store.OnlyPostgres(`SELECT task FROM pending_runs UNION ALL SELECT live FROM concurrency_keys`),
	rows: store.OnlyPostgres(`SELECT COALESCE(t.id, p.task) FROM (SELECT * FROM tasks WHERE state = 1) AS t FULL JOIN pending_runs p ON p.task = t.id
		AND p.task_queue_id = t.task_queue_id AND p.rank = -t.priority AND p.scheduled = t.scheduled AND p.deadline = t.deadline
		AND p.concurrency_key = t.concurrency_key AND p.concurrency_limit = t.concurrency_limit
		WHERE t.id IS NULL OR p.task IS NULL`),
	keys: store.OnlyPostgres(`SELECT COALESCE(t.n, k.live) FROM (SELECT concurrency_key, COUNT(*) AS n FROM tasks
			WHERE state = 2 AND concurrency_limit > 0 GROUP BY concurrency_key) AS t
		FULL JOIN concurrency_keys k ON k.concurrency_key = t.concurrency_key WHERE t.n IS DISTINCT FROM k.live`),
	firsts: store.OnlyPostgres(`SELECT task FROM (SELECT p.*, COALESCE(k.live, 0) AS live, ROW_NUMBER() OVER (
			PARTITION BY p.concurrency_key, p.concurrency_limit, p.task_queue_id ORDER BY p.rank, p.scheduled, p.task) AS place
			FROM pending_runs p LEFT JOIN concurrency_keys k ON k.concurrency_key = p.concurrency_key) AS x
		WHERE blocked <> CASE WHEN concurrency_limit = 0 OR place = 1 AND live < concurrency_limit THEN 0 ELSE 1 END`),
	heads: store.OnlyPostgres(`SELECT p.task FROM pending_runs p LEFT JOIN pending_heads h
		ON h.task_queue_id = p.task_queue_id AND h.rank = p.rank
		WHERE p.blocked = 0 AND (h.rank IS NULL OR (h.scheduled, h.task) > (p.scheduled, p.task))`),
}

// checkOrder compares the order in the database with the tasks: every pending run
// is in it, those with keys stand in it as their limits admit, no claim begins
// behind one.
func (d *deployment) checkOrder(t testing.TB) {
	t.Helper()
	err := d.store.Read(context.Background(), func(tx *store.Tx) error {
		for what, q := range map[string]*store.Stmt{"not the tasks' state": orderCheck.rows, "a wrong number of live runs": orderCheck.keys,
			"wrongly blocked or not": orderCheck.firsts, "before the place where claims begin": orderCheck.heads} {
			rows := tx.Query(q)
			for rows.Next() {
				var n int64
				if err := rows.Scan(&n); err != nil {
					return err
				}
				t.Errorf("the order of pending runs: %s: %d", what, n)
			}
			if err := rows.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// rebuilt is the order of pending runs as a restart would make it.
func (d *deployment) rebuilt(t testing.TB) *memoryPending {
	m := newMemoryPending()
	other := &Service{store: d.store, clock: d.clock, pending: &memoryRuns{memoryPending: m}, workers: newWorkerMemory()}
	if err := other.load(context.Background()); err != nil {
		t.Fatal(err)
	}
	return m
}

// order is all that a pendingRuns holds, in the order of claiming, on a copy.
func (d *deployment) order(m *memoryPending) string {
	m.mu.Lock()
	var changes []pendingChange
	names := map[string]int{}
	for name, q := range m.queues {
		names[name] = q.size
		for p, h := range q.heaps {
			if h == nil {
				continue
			}
			for _, item := range h.items {
				changes = append(changes, pendingChange{pendingRun: pendingRun{row: item.row, scheduled: item.scheduled, priority: priority(p)}, queue: name})
			}
		}
	}
	var keys strings.Builder
	for _, key := range sortedKeys(m.gates) {
		fmt.Fprintf(&keys, "%s: live %v, waiting", key, sortedKeys(m.gates[key].live))
		for _, row := range sortedKeys(m.keyed) {
			if k := m.keyed[row]; k.limit.key == key {
				fmt.Fprintf(&keys, " %d(%s %s %d)", row, k.class.queue, k.priority, k.class.limit)
			}
		}
		keys.WriteString("\n")
	}
	m.mu.Unlock()
	spare := newMemoryPending()
	spare.apply(changes)
	var b strings.Builder
	for _, name := range sortedKeys(names) {
		if names[name] == 0 {
			continue
		}
		b.WriteString(name + ":")
		runs, _ := spare.take(name, len(changes))
		for _, r := range runs {
			b.WriteString(" " + r.priority.String() + "/" + strconv.FormatInt(r.row, 10))
		}
		b.WriteString("\n")
	}
	return b.String() + keys.String()
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
