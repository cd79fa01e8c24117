package queue

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

const (
	// maxAhead bounds the search for a run's position: it looks at about twice as
	// many runs, under the lock that claims take.
	maxAhead = 10_000
	// maxBlockers is how many dependencies that block are listed.
	maxBlockers = 100
	// seenLately is how long ago a worker may have been seen to count as there. It
	// is more than seenEvery.
	seenLately = time.Hour
	// maxWorkersCounted bounds the count of workers.
	maxWorkersCounted = 1000
)

// whyPending says why a task does not run. It reads what is there, and holds up
// no claim.
func (s *Service) whyPending(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	var out *WhyPendingResponse
	err = s.store.Read(c.Context, func(tx *store.Tx) error {
		t, err := loadTask(tx, id)
		if err != nil {
			return err
		}
		out = &WhyPendingResponse{TaskID: id.String(), TaskQueueID: t.queue, State: t.state().String()}
		switch t.state() {
		case unscheduled:
			err = s.explainUnscheduled(tx, t, out)
		case pending:
			err = s.explainPending(tx, t, out)
		case running:
			out.Summary = fmt.Sprintf("The task is running: worker %s/%s claimed run %d at %s.", t.last.workerGroup, t.last.workerID, t.last.id, t.last.started)
		default:
			out.Summary = fmt.Sprintf("The task is resolved: run %d ended as %s (%s) at %s.", t.last.id, t.state(), t.last.reasonResolved, t.last.resolved)
		}
		return err
	})
	if errors.Is(err, store.ErrNoRows) {
		return nil, taskNotFound(id)
	}
	return out, err
}

func (s *Service) explainUnscheduled(tx *store.Tx, t *task, out *WhyPendingResponse) error {
	def, err := readDefinition(tx, t.id)
	if err != nil {
		return err
	}
	all := true // all-completed
	var ids []string
	eachMember(def.text, func(name string, v []byte) {
		switch name {
		case "dependencies":
			ids = stringsOf(v)
		case "requires":
			all = unquote(v) == "all-completed"
		}
	})
	total := int64(t.unsatisfied)
	out.BlockersTotal = &total
	out.Blockers = []WhyPendingResponseBlocker{}
	self, never := false, 0
	for _, text := range ids {
		if len(out.Blockers) == min(t.unsatisfied, maxBlockers) {
			break
		}
		dep, err := slugid.Parse(text)
		if err != nil {
			return err
		}
		var st int64
		var satisfied bool
		err = tx.Row(stmt.blocker, t.row, dep).Scan(&st, &satisfied)
		if errors.Is(err, store.ErrNoRows) || err == nil && satisfied {
			continue
		}
		if err != nil {
			return err
		}
		b := WhyPendingResponseBlocker{TaskID: text, State: state(st).String()}
		self = self || dep == t.id
		if b.Unsatisfiable = all && (state(st) == failed || state(st) == exception); b.Unsatisfiable {
			never++
		}
		out.Blockers = append(out.Blockers, b)
	}
	var text strings.Builder
	switch {
	case total == 0:
		text.WriteString("The task waits for nothing, and is about to be scheduled.")
	case total == 1:
		text.WriteString("The task waits for one dependency.")
	default:
		fmt.Fprintf(&text, "The task waits for %d dependencies.", total)
	}
	if never > 0 {
		fmt.Fprintf(&text, " %d of those listed did not complete, which this task requires: unless they are rerun, or this task is scheduled by scheduleTask, it will never run.", never)
	}
	if self {
		text.WriteString(" It depends on itself, so that only scheduleTask makes it run.")
	}
	out.Summary = text.String()
	return nil
}

func (s *Service) explainPending(tx *store.Tx, t *task, out *WhyPendingResponse) error {
	now := s.clock.Now()
	var total, running int
	if err := tx.Row(stmt.counts, t.queue).Scan(&total, &running); err != nil && !errors.Is(err, store.ErrNoRows) {
		return err
	}
	ahead, exact, err := s.pending.ahead(tx, t.queue, t.pendingChange().pendingRun, maxAhead)
	if err != nil {
		return err
	}
	out.Position = &WhyPendingResponsePosition{Ahead: int64(ahead), Exact: exact, Pending: int64(total)}

	w := &WhyPendingResponseWorkers{}
	if err := tx.Row(stmt.workersSeen, now, t.queue, now.Add(-seenLately), maxWorkersCounted).Scan(&w.Seen, &w.Quarantined); err != nil {
		return err
	}
	rate, last := s.history.rate(t.queue, now)
	var started clock.Time
	if err := tx.Row(stmt.lastStarted, t.queue).Scan(&started); err != nil && !errors.Is(err, store.ErrNoRows) {
		return err
	}
	if last = max(last, started); last != 0 {
		w.LastClaim = last
	}
	w.ClaimsPerMinute = math.Round(rate*100) / 100
	out.Workers = w

	var text strings.Builder
	fmt.Fprintf(&text, "The task is pending in %s since %s.", t.queue, t.last.scheduled)
	blocked := false
	if limit := t.concurrency; limit != nil {
		live, err := s.pending.live(tx, limit.key)
		if err != nil {
			return err
		}
		out.Concurrency = &WhyPendingResponseConcurrency{Key: limit.name(), Limit: int64(limit.limit), Live: int64(live)}
		if blocked = live >= limit.limit; blocked {
			fmt.Fprintf(&text, " It is passed over: %d runs with its concurrency key %q are live, and it allows %d.", live, limit.name(), limit.limit)
		}
	}
	switch {
	case w.Seen == 0:
		text.WriteString(" No worker was seen in its queue in the last hour.")
	case w.Seen == w.Quarantined:
		fmt.Fprintf(&text, " All %d workers seen in its queue in the last hour are in quarantine.", w.Seen)
	case exact:
		fmt.Fprintf(&text, " %d tasks are before it, for %d workers seen in the last hour.", ahead, w.Seen-w.Quarantined)
	default:
		fmt.Fprintf(&text, " More than %d tasks are before it, for %d workers seen in the last hour.", ahead, w.Seen-w.Quarantined)
	}
	if rate > 0 && exact && !blocked && w.Seen > w.Quarantined {
		at := now.Add(time.Duration(float64(ahead+1) / rate * float64(time.Minute))).Truncate()
		if at < t.deadline {
			out.ExpectedStart = at
			fmt.Fprintf(&text, " At the rate of late, %.1f claims a minute, it starts at about %s.", rate, at)
		} else {
			fmt.Fprintf(&text, " At the rate of late, %.2f claims a minute, it does not start before its deadline.", rate)
		}
	}
	out.Summary = text.String()
	return nil
}

// ahead counts the runs that are claimed before r, as they stand now: those of
// higher priority, and older ones of the same. It stops at most; exact is false
// then. Of runs with a concurrency key only the next of each limit counts.
func (m *memoryPending) ahead(queue string, r pendingRun, most int) (n int, exact bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queues[queue]
	if q == nil {
		return 0, true
	}
	for p := highest; p > r.priority; p-- {
		if h := q.heaps[p]; h != nil {
			n += len(h.items)
		}
	}
	if h := q.heaps[r.priority]; h != nil && n < most {
		n += h.before(heapItem{r.scheduled, r.row}, most-n)
	}
	return n, n < most
}

// before counts the items that are before one, up to most: in a heap, nothing
// below an item that is not before it is.
func (h *pendingHeap) before(item heapItem, most int) (n int) {
	next := make([]int, 1, 64)
	for len(next) > 0 && n < most {
		i := next[len(next)-1]
		next = next[:len(next)-1]
		if i >= len(h.items) || !h.items[i].before(item) {
			continue
		}
		n++
		next = append(next, 2*i+1, 2*i+2)
	}
	return n
}

// live is the number of live runs of a concurrency key.
func (m *memoryPending) live(key string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.gates[key]; g != nil {
		return len(g.live)
	}
	return 0
}
