package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// workerName names a worker of a task queue.
type workerName struct{ group, id string }

type workerKey struct {
	queue string
	workerName
}

const (
	// seenEvery is how often at most it is written that a worker is there.
	seenEvery = 30 * time.Minute
	// workerLife is how long a worker and its task queue are remembered after
	// they were last seen.
	workerLife = 24 * time.Hour
	// queueLife is how long a task queue is after a claimTask, as published.
	queueLife = 5 * 24 * time.Hour
	// recentTasks is how many claims a worker's record shows. Each is stored as
	// recentWidth characters: the taskId and two digits of the runId.
	recentTasks = 20
	recentWidth = 24
	// seenMax is how many workers are remembered as seen; beyond it the oldest
	// are forgotten, which costs them a write.
	seenMax = 100_000
)

// never is the quarantineUntil of workers that never were in quarantine.
func never(now clock.Time) clock.Time { return now.Add(-10 * 365 * 24 * time.Hour) }

// workerMemory knows who is in quarantine, so that claimWork needs no query,
// and when workers were last written as seen.
type workerMemory struct {
	mu         sync.Mutex
	quarantine map[workerKey]clock.Time
	seen       map[workerKey]clock.Time
}

func newWorkerMemory() *workerMemory {
	return &workerMemory{quarantine: map[workerKey]clock.Time{}, seen: map[workerKey]clock.Time{}}
}

// load reads who is in quarantine.
func (m *workerMemory) load(tx *store.Tx, now clock.Time) error {
	quarantine := map[workerKey]clock.Time{}
	rows := tx.Query(stmt.quarantined, now)
	defer rows.Close()
	for rows.Next() {
		var k workerKey
		var until clock.Time
		if err := rows.Scan(&k.queue, &k.group, &k.id, &until); err != nil {
			return err
		}
		quarantine[k] = until
	}
	if err := rows.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.quarantine = quarantine
	return nil
}

// quarantineTopic is of the signals that tell every node who is in quarantine
// until when: "UNTIL QUEUE GROUP ID".
const quarantineTopic = "queue/quarantine"

func signalQuarantine(tx *store.Tx, k workerKey, until clock.Time) {
	tx.Signal(quarantineTopic, fmt.Sprintf("%d %s %s %s", int64(until), k.queue, k.group, k.id))
}

func (s *Service) heardQuarantine(signal store.Signal) {
	if signal.Lost {
		s.follower.reread()
		return
	}
	parts := strings.Split(signal.Detail, " ")
	if len(parts) != 4 {
		return // of a later version
	}
	until, _ := strconv.ParseInt(parts[0], 10, 64)
	s.workers.setQuarantine(workerKey{parts[1], workerName{parts[2], parts[3]}}, clock.Time(until), s.clock.Now())
}

func (m *workerMemory) quarantined(k workerKey, now clock.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.quarantine[k] > now
}

func (m *workerMemory) setQuarantine(k workerKey, until, now clock.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if until > now {
		m.quarantine[k] = until
	} else {
		delete(m.quarantine, k)
	}
}

// forget drops what is remembered of a worker whose record is gone.
func (m *workerMemory) forget(k workerKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.quarantine, k)
	delete(m.seen, k)
}

func (m *workerMemory) recent(k workerKey, now clock.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.seen[k]
	return ok && at.Add(seenEvery) > now
}

func (m *workerMemory) saw(k workerKey, now clock.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.seen) >= seenMax {
		for old, at := range m.seen {
			if at.Add(seenEvery) <= now || len(m.seen) > seenMax*3/4 {
				delete(m.seen, old)
			}
		}
	}
	m.seen[k] = now
}

// sighting is a worker that was seen, on its way through the batch.
type sighting struct {
	worker  workerKey  // without a name: only the task queue was
	expires clock.Time // 0: workerLife from now
}

// see notes that a worker is there, unless that was noted lately.
func (s *Service) see(ctx context.Context, queue string, w workerName) error {
	k := workerKey{queue, w}
	if s.workers.recent(k, s.clock.Now()) {
		return nil
	}
	return s.sights.Do(ctx, &sighting{worker: k})
}

// seeQueue notes that a task queue is served, by a worker that claimed with
// claimTask: that does not make the worker known.
func (s *Service) seeQueue(ctx context.Context, queue string) error {
	k := workerKey{queue: queue}
	if s.workers.recent(k, s.clock.Now()) {
		return nil
	}
	return s.sights.Do(ctx, &sighting{worker: k, expires: s.clock.Now().Add(queueLife)})
}

func (s *Service) sightBatch(tx *store.Tx, items []*sighting) error {
	now := tx.Now()
	for _, item := range items {
		k, expires := item.worker, item.expires
		if expires == 0 {
			expires = now.Add(workerLife)
		}
		if _, err := tx.Exec(stmt.touchQueue, k.queue, expires, now); err != nil {
			return err
		}
		if k.id != "" {
			if _, err := tx.Exec(stmt.touchWorker, k.queue, k.group, k.id, never(now), expires, now, now); err != nil {
				return err
			}
		}
		// A worker that was declared for a short time must be written again
		// when it claims.
		if item.expires == 0 || k.id == "" {
			tx.OnCommit(func() { s.workers.saw(k, now) })
		}
	}
	return nil
}

// recordClaims adds runs that a worker claimed to its record, which see made.
func (o *op) recordClaims(queue string, w workerName, claims []claim) error {
	_, err := o.tx.Exec(stmt.recordClaims, recentText(claims), queue, w.group, w.id)
	return err
}

// recentText is how claims are kept in a worker's record.
func recentText(claims []claim) string {
	text := make([]byte, 0, recentWidth*len(claims))
	for i := range claims {
		t := claims[i].task
		text = t.id.AppendTo(text)
		text = fmt.Appendf(text, "%02d", t.last.id)
	}
	return string(text)
}
