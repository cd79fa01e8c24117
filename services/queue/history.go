package queue

import (
	"sync"
	"time"

	"taskcluster/internal/clock"
)

// claimHistory counts the claims of the last hour in each task queue, in memory:
// it knows what this process has seen since it started.
type claimHistory struct {
	began clock.Time

	mu     sync.Mutex
	queues map[string]*queueHistory
}

type queueHistory struct {
	last   clock.Time
	minute int64 // of the latest count
	counts [historyMinutes]int32
}

const (
	historyMinutes = 60
	// historyQueues is how many queues are remembered; beyond it those without a
	// claim in the last hour are forgotten, or else the one that comes to hand.
	historyQueues = 10_000
	// historyLeast is the shortest time that a rate is taken over.
	historyLeast = 5 * time.Minute
)

func newClaimHistory(now clock.Time) *claimHistory {
	return &claimHistory{began: now, queues: map[string]*queueHistory{}}
}

func minuteOf(at clock.Time) int64 { return int64(at) / time.Minute.Microseconds() }

func (h *claimHistory) add(queue string, n int, now clock.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[queue]
	if q == nil {
		if len(h.queues) >= historyQueues {
			h.forget(now)
		}
		q = &queueHistory{minute: minuteOf(now)}
		h.queues[queue] = q
	}
	q.advance(now)
	q.counts[q.minute%historyMinutes] += int32(n)
	q.last = max(q.last, now)
}

// advance empties the minutes since the latest count.
func (q *queueHistory) advance(now clock.Time) {
	m := minuteOf(now)
	for n := 0; q.minute < m && n < historyMinutes; n++ {
		q.minute++
		q.counts[q.minute%historyMinutes] = 0
	}
	q.minute = max(q.minute, m)
}

func (h *claimHistory) forget(now clock.Time) {
	any := ""
	for name, q := range h.queues {
		if q.last.Add(historyMinutes*time.Minute) < now {
			delete(h.queues, name)
		}
		any = name
	}
	if len(h.queues) >= historyQueues {
		delete(h.queues, any)
	}
}

// rate is the claims per minute over the last hour, or since the process
// started; 0 when there were none. last is when the latest was, 0 for never.
func (h *claimHistory) rate(queue string, now clock.Time) (perMinute float64, last clock.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.queues[queue]
	if q == nil {
		return 0, 0
	}
	q.advance(now)
	total := 0
	for _, n := range q.counts {
		total += int(n)
	}
	over := min(max(now.Std().Sub(h.began.Std()), historyLeast), historyMinutes*time.Minute)
	return float64(total) / over.Minutes(), q.last
}
