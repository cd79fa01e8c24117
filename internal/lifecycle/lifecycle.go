// Package lifecycle starts background functions and stops them.
//
// A Group promises that after Stop returned without error none of its
// functions runs any more, that they are stopped in the reverse order of their
// start, one after the other, so that a function may rely on those started
// before it, and that a panic in one is an error and not the end of the
// process.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
)

// Group is a set of background functions. The zero value is ready for use and
// logs nothing.
type Group struct {
	// Log receives what goes wrong while a function runs. Set it before Go.
	Log *slog.Logger

	mu      sync.Mutex
	members []*member
	stopped bool
	failed  chan struct{}
	once    sync.Once
	err     error
}

type member struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// ErrStopped is what a function's context gives as its cause after Stop.
var ErrStopped = errors.New("the program is stopping")

// PanicError is a panic of a function.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Go starts run in the background. Its context ends when the group is stopped;
// run then returns soon. An error that run returns before that, or a panic,
// is logged and closes Failed; an error of its ended context is none. After
// Stop, run is not started.
func (g *Group) Go(name string, run func(ctx context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopped {
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	m := &member{name: name, cancel: func() { cancel(ErrStopped) }, done: make(chan struct{})}
	g.members = append(g.members, m)
	go func() {
		defer close(m.done)
		defer m.cancel()
		err := contain(ctx, run)
		if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, ErrStopped)) {
			err = nil
		}
		if err != nil {
			m.err = fmt.Errorf("%s: %w", name, err)
			g.fail(m.err, err)
		}
	}()
}

func contain(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return run(ctx)
}

func (g *Group) fail(named, err error) {
	if g.Log != nil {
		attrs := []any{"error", named}
		var p *PanicError
		if errors.As(err, &p) {
			attrs = append(attrs, "stack", string(p.Stack))
		}
		g.Log.Error("a background function failed", attrs...)
	}
	failed := g.failedChannel()
	g.once.Do(func() {
		g.mu.Lock()
		g.err = named
		g.mu.Unlock()
		close(failed)
	})
}

// Failed is closed when the first function fails; Err tells how.
func (g *Group) Failed() <-chan struct{} { return g.failedChannel() }

func (g *Group) failedChannel() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed == nil {
		g.failed = make(chan struct{})
	}
	return g.failed
}

// Err is the error of the function that failed first, or nil.
func (g *Group) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Stop stops the functions, the one started last first, and waits for each
// before it stops the next. It returns their errors, joined. When ctx ends
// first, all that still run are told to stop, and the error names the one that
// did not end in time. Stop may be called again.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	g.stopped = true
	members := g.members
	g.mu.Unlock()
	var errs []error
	for i := len(members) - 1; i >= 0; i-- {
		m := members[i]
		m.cancel()
		select {
		case <-m.done:
		default:
			select {
			case <-m.done:
			case <-ctx.Done():
				for _, rest := range members[:i] {
					rest.cancel()
				}
				return errors.Join(append(errs, fmt.Errorf("%s did not stop in time: %w", m.name, context.Cause(ctx)))...)
			}
		}
		if m.err != nil {
			errs = append(errs, m.err)
		}
	}
	return errors.Join(errs...)
}
