package events

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"taskcluster/internal/store"
)

// A consumer reads at most readAhead messages at once and saves its cursor
// after each portion in which it handled one. Progress over messages that did
// not concern it is saved only every skipAhead rows: skipping is cheap.
const (
	readAhead = 256
	skipAhead = 4096
)

var cursorStmt = struct{ get, set *store.Stmt }{
	get: store.SQL(`SELECT position FROM events_cursors WHERE name = ?`),
	set: store.SQL(`
		INSERT INTO events_cursors (name, position, updated) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated = excluded.updated`),
}

// rejected is an error that no further attempt can heal.
type rejected struct{ error }

func (r rejected) Unwrap() error { return r.error }

// Reject wraps an error of a handler so that the message becomes a dead letter
// at once, without further attempts.
func Reject(err error) error { return rejected{err} }

// Consume hands the messages that fit one of the bindings to handle, in the
// order of the log and one at a time, until ctx ends; then it returns nil. It
// wakes up by commits and does nothing in between.
//
// The consumer's place in the log is kept under its name. A name that is new
// starts at the present head. After a crash it goes on where it last saved its
// place: up to 256 messages come again. They, and some that do not, are marked
// as Redelivered. Of the consumers of one name in all processes that share the
// store one runs, and the others wait until it ends; a second one in the same
// process is refused.
//
// When handle returns an error or panics, the message is tried again after
// a pause, and after Options.Attempts failures it becomes a dead letter and the
// consumer goes on (see DeadLetters, Replay). While it is being tried, those
// behind it wait.
func (l *Log) Consume(ctx context.Context, name string, bindings []Binding, handle func(context.Context, Message) error) error {
	if name == "" {
		return errors.New("a consumer needs a name")
	}
	if l.broken != nil {
		return l.broken
	}
	c := &consumer{log: l, name: name, bindings: bindings, handle: handle}
	if err := l.enter(c); err != nil {
		return err
	}
	defer l.leave(name)
	err := l.store.RunLeased(ctx, "events/consume/"+name, func(leased context.Context) error {
		c.started, c.replays = false, 0 // others may have run since
		err := c.run(leased)
		if ctx.Err() != nil {
			// What was handled need not come again; a few seconds must do for that.
			saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return c.save(saving)
		}
		return err // of no interest when the lease was lost
	})
	switch {
	case ctx.Err() == nil:
		return fmt.Errorf("the consumer %s: %w", name, err)
	case errors.Is(err, context.Cause(ctx)): // while it waited for its turn
		return nil
	}
	return err
}

func (l *Log) enter(c *consumer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.consumers[c.name] != nil {
		return fmt.Errorf("the consumer %s runs already", c.name)
	}
	l.consumers[c.name] = c
	return nil
}

func (l *Log) leave(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.consumers, name)
}

type consumer struct {
	log      *Log
	name     string
	bindings []Binding
	handle   func(context.Context, Message) error

	started bool
	at      Position // handled or skipped up to here
	saved   Position // the cursor in the store
	maybe   Position // messages up to here may have been handled before
	replays int64    // the value of Log.replays when replays were last looked for

	passed atomic.Int64 // at, for others to read
}

// run works until ctx ends or the store is closed. Other failures of the store
// are tried again.
func (c *consumer) run(ctx context.Context) error {
	l := c.log
	for failures := 0; ctx.Err() == nil; {
		changed := l.Changed()
		more, err := c.work(ctx)
		switch {
		case errors.Is(err, store.ErrClosed):
			return err
		case err != nil && ctx.Err() == nil:
			failures++
			l.opts.Log.Error("an event consumer cannot use the store", "consumer", c.name, "error", err)
			l.pause(ctx, failures)
		case !more:
			failures = 0
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// work handles one portion and tells whether there may be more.
func (c *consumer) work(ctx context.Context) (more bool, err error) {
	l := c.log
	if !c.started {
		if err := c.start(ctx); err != nil {
			return false, err
		}
	}
	if err := c.replay(ctx); err != nil {
		return false, err
	}
	if c.at >= l.Head() {
		return false, nil
	}
	messages, err := l.Read(ctx, c.at, readAhead)
	if err != nil {
		return false, err
	}
	handled := false
	for _, m := range messages {
		if Matches(c.bindings, &m.Event) {
			handled = true
			m.Redelivered = m.Position <= c.maybe
			if done, err := c.deliver(ctx, m); !done {
				return false, err
			}
		}
		c.at = m.Position
		if ctx.Err() != nil {
			return false, nil
		}
	}
	c.passed.Store(int64(c.at))
	if len(messages) == 0 {
		return false, nil // the rest was trimmed
	}
	if handled || c.at-c.saved >= skipAhead*PerRow {
		err = c.save(ctx)
	}
	return true, err
}

// start finds the consumer's place, or makes it at the head.
func (c *consumer) start(ctx context.Context) error {
	l := c.log
	var maybe Position
	err := l.store.Write(ctx, func(tx *store.Tx) error {
		head, err := readHead(tx) // what others published may not be known here yet
		if err != nil {
			return err
		}
		err = tx.Row(cursorStmt.get, c.name).Scan((*int64)(&c.at))
		if err == nil {
			// What may have been handled after the cursor was saved.
			maybe = min(head, c.at+(skipAhead+2*readAhead)*PerRow)
		}
		if err != store.ErrNoRows {
			return err
		}
		c.at, maybe = head, 0
		_, err = tx.Exec(cursorStmt.set, c.name, int64(c.at), tx.Now())
		return err
	})
	if err != nil {
		return err
	}
	c.maybe = maybe
	c.saved, c.started = c.at, true
	return nil
}

// save stores the cursor.
func (c *consumer) save(ctx context.Context) error {
	if !c.started || c.saved == c.at {
		return nil
	}
	err := c.log.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(cursorStmt.set, c.name, int64(c.at), tx.Now())
		return err
	})
	if err == nil {
		c.saved = c.at
	}
	return err
}

// deliver hands a message over until that succeeds or the message is given up;
// it is not done when ctx ends before, or when the store fails.
func (c *consumer) deliver(ctx context.Context, m Message) (done bool, err error) {
	l := c.log
	for attempt := 1; ; attempt++ {
		failure := c.call(ctx, m)
		if failure == nil {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, nil
		}
		var no rejected
		if attempt >= l.opts.Attempts || errors.As(failure, &no) {
			l.opts.Log.Error("an event became a dead letter", "consumer", c.name, "exchange", m.Exchange,
				"key", m.Key, "position", int64(m.Position), "attempts", attempt, "error", failure)
			err := c.bury(ctx, m, attempt, failure)
			return err == nil, err
		}
		l.opts.Log.Warn("an event could not be handled and will be tried again", "consumer", c.name, "exchange", m.Exchange,
			"key", m.Key, "position", int64(m.Position), "attempt", attempt, "error", failure)
		if err := c.save(ctx); err != nil {
			return false, err
		}
		if l.pause(ctx, attempt); ctx.Err() != nil {
			return false, nil
		}
		m.Redelivered = true
	}
}

// call runs the handler and turns a panic into an error.
func (c *consumer) call(ctx context.Context, m Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.opts.Log.Error("an event handler panicked", "consumer", c.name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.traced(ctx, m, c.handle)
}

// pause waits after the n-th failure.
func (l *Log) pause(ctx context.Context, n int) {
	d := l.opts.MaxBackoff
	if n < 32 && l.opts.Backoff<<(n-1) < d && l.opts.Backoff<<(n-1) > 0 {
		d = l.opts.Backoff << (n - 1)
	}
	due, cancel := l.opts.Clock.After(l.opts.Clock.Now().Add(d))
	defer cancel()
	select {
	case <-due:
	case <-ctx.Done():
	}
}
