package clock

import (
	"sync"
	"time"
)

// Fake is a clock that moves only when a test moves it.
type Fake struct {
	mu      sync.Mutex
	now     Time
	waiting map[*waiter]struct{}
}

type waiter struct {
	at Time
	ch chan struct{}
}

// NewFake makes a clock that stands at the given instant.
func NewFake(at Time) *Fake {
	return &Fake{now: at, waiting: map[*waiter]struct{}{}}
}

// Now implements Clock.
func (f *Fake) Now() Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// After implements Clock.
func (f *Fake) After(at Time) (<-chan struct{}, func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := &waiter{at: at, ch: make(chan struct{}, 1)}
	if at <= f.now {
		w.ch <- struct{}{}
		return w.ch, func() {}
	}
	f.waiting[w] = struct{}{}
	return w.ch, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiting, w)
	}
}

// Advance moves the clock and fires every timer that has come due.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
	for w := range f.waiting {
		if w.at <= f.now {
			delete(f.waiting, w)
			w.ch <- struct{}{}
		}
	}
}
