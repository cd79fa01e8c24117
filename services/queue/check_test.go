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
	if have, want := d.order(d.memory()), d.order(d.rebuilt(t)); have != want {
		t.Errorf("pending in memory:\n%s\nin the table:\n%s", have, want)
	}
}

// memory is the order that a deployment keeps in memory.
func (d *deployment) memory() *memoryPending { return d.queue.pending.(*memoryRuns).memoryPending }

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
