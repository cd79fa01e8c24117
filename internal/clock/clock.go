package clock

import "time"

// Clock tells the time. Services take one instead of calling time.Now, so that
// tests decide when a claim expires.
type Clock interface {
	// Now is the present instant.
	Now() Time
	// After returns a channel that receives once when at has come, and a
	// function that gives the timer up.
	After(at Time) (<-chan struct{}, func())
}

// Real is the machine's clock.
type Real struct{}

// Now implements Clock.
func (Real) Now() Time { return Of(time.Now()) }

// After implements Clock.
func (r Real) After(at Time) (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	t := time.AfterFunc(max(at.Sub(r.Now()), 0), func() { ch <- struct{}{} })
	return ch, func() { t.Stop() }
}
