package clock

import (
	"sync"
	"time"
)

// Clock tells the time. Services take one instead of calling time.Now, so that
// tests decide when a claim expires.
type Clock interface {
	// Now is the present instant.
	Now() Time
	// After returns a channel that receives once when at has come, and a
	// function that gives the timer up. Who acts on the time itself, not on how
	// long he waited, asks Now again: a clock can be set back.
	After(at Time) (<-chan struct{}, func())
}

// Real is the machine's clock.
type Real struct{}

// Now implements Clock.
func (Real) Now() Time { return Of(time.Now()) }

// recheck is how long a timer of Real trusts that the machine's clock was not
// set.
const recheck = 10 * time.Second

// After implements Clock. A clock that was set forward is noticed within ten
// seconds. When it was set back the channel receives, before at, after as much
// time as there was to wait: nobody waits for longer than he meant to.
func (r Real) After(at Time) (<-chan struct{}, func()) { return after(at, r.Now, recheck) }

func after(at Time, now func() Time, recheck time.Duration) (<-chan struct{}, func()) {
	t := &timer{at: at, now: now, recheck: recheck, ch: make(chan struct{}, 1)}
	left := max(at.Sub(now()), 0)
	t.end = time.Now().Add(left) // by the clock that nobody sets
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = time.AfterFunc(min(left, recheck), t.look)
	return t.ch, t.stop
}

// timer is one call of After.
type timer struct {
	at      Time
	end     time.Time
	now     func() Time
	recheck time.Duration
	ch      chan struct{}

	mu    sync.Mutex
	timer *time.Timer // nil: given up
}

func (t *timer) look() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer == nil {
		return
	}
	left := min(t.at.Sub(t.now()), time.Until(t.end))
	if left <= 0 {
		t.ch <- struct{}{}
		return
	}
	t.timer.Reset(min(left, t.recheck))
}

func (t *timer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}
