package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"taskcluster/internal/store"
)

// Portions hands the messages of the log to handle in order, up to limit at
// once, until ctx ends; then it returns nil. It is for a consumer that must
// not leave a message out, as a mirror, and is quicker with many at a time.
//
// handle is first called without messages, when its turn has come: of all
// processes that share the store, one runs the consumer. It is called so again
// before messages are read, and returns when it can take some: while it waits,
// none are kept in memory. Then it is given some, and returns how many of them,
// from the first, it has dealt with; they do not come again, unless the process
// ends before that is written down, or the store fails: then up to limit come
// again. Those behind them do, after a pause, as often as it takes: nothing
// becomes a dead letter, unless handle says so with Bury. If it did not deal with
// all, it says why.
//
// The place in the log is kept under the name, as that of Consume is, and never
// moves back. A name that is new starts at the present head, or where Register
// put it.
func (l *Log) Portions(ctx context.Context, name string, limit int, handle func(context.Context, []Message) (done int, err error)) error {
	if name == "" || limit <= 0 {
		return errors.New("a consumer needs a name, and takes at least one message")
	}
	if err := l.enter(&consumer{log: l, name: name}); err != nil {
		return err
	}
	defer l.leave(name)
	err := l.store.RunLeased(ctx, "events/consume/"+name, func(ctx context.Context) error {
		return l.portions(ctx, name, limit, handle)
	})
	if ctx.Err() != nil {
		return nil // all that was done is saved
	}
	return fmt.Errorf("the consumer %s: %w", name, err)
}

// portions works until ctx ends or the store is closed.
func (l *Log) portions(ctx context.Context, name string, limit int, handle func(context.Context, []Message) (int, error)) error {
	var at Position
	started := false
	for failures := 0; ctx.Err() == nil; {
		changed := l.Changed()
		n, err := 0, error(nil)
		if !started {
			at, err = l.Register(ctx, name)
			if err == nil {
				_, err = handle(ctx, nil)
			}
			started = err == nil
		}
		if started && at < l.Head() {
			at, n, err = l.portion(ctx, name, at, limit, handle)
		}
		if n > 0 {
			failures = 0
		}
		switch {
		case errors.Is(err, store.ErrClosed):
			return err
		case err != nil && ctx.Err() == nil:
			failures++
			l.opts.Log.Warn("an event consumer has failed and will go on where it stopped", "consumer", name, "error", err)
			l.pause(ctx, failures)
		case n == 0:
			failures = 0
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// portion hands one portion over and saves the place behind what was done. It
// returns the place, and the number of messages that it moved past.
func (l *Log) portion(ctx context.Context, name string, at Position, limit int, handle func(context.Context, []Message) (int, error)) (Position, int, error) {
	if _, err := handle(ctx, nil); err != nil {
		return at, 0, err
	}
	messages, err := l.Read(ctx, at, limit)
	if err != nil || len(messages) == 0 {
		return at, 0, err
	}
	done, failure := handle(ctx, messages)
	if done < 0 || done > len(messages) || done < len(messages) && failure == nil {
		return at, 0, fmt.Errorf("it says that it has done %d of %d messages, and: %w", done, len(messages), failure)
	}
	if done == 0 {
		return at, 0, failure
	}
	to := messages[done-1].Position
	// What was done need not come again, even if ctx has ended meanwhile.
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := l.store.Write(saving, func(tx *store.Tx) error {
		_, err := tx.Exec(portionStmt.advance, int64(to), tx.Now(), name, int64(to))
		return err
	}); err != nil {
		return at, 0, errors.Join(failure, err)
	}
	return to, done, failure
}

var portionStmt = struct{ advance *store.Stmt }{
	advance: store.SQL(`UPDATE events_cursors SET position = ?, updated = ? WHERE name = ? AND position < ?`),
}

// Register makes a place in the log for a durable consumer, at the present
// head, unless it has one, and returns it: what is published from now on waits
// for the consumer.
func (l *Log) Register(ctx context.Context, name string) (at Position, err error) {
	if l.broken != nil {
		return 0, l.broken
	}
	err = l.store.Write(ctx, func(tx *store.Tx) error {
		err := tx.Row(cursorStmt.get, name).Scan((*int64)(&at))
		if err != store.ErrNoRows {
			return err
		}
		if at, err = readHead(tx); err != nil { // not Head: others may have published
			return err
		}
		_, err = tx.Exec(cursorStmt.set, name, int64(at), tx.Now())
		return err
	})
	return at, err
}

// Bury makes a message a dead letter of the consumer, for the reason given.
// Its place in the log is not changed by that.
func (l *Log) Bury(ctx context.Context, consumer string, m Message, reason error) error {
	var enc encoder
	enc.reset()
	enc.add(&m.Event)
	return l.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(deadStmt.bury, consumer, int64(m.Position), m.Time, enc.buf, 1, errorText(reason), tx.Now())
		return err
	})
}

// Behind is how long the oldest message that a durable consumer has not dealt
// with has been in the log: zero if there is none, or no such consumer.
func (l *Log) Behind(ctx context.Context, name string) (time.Duration, error) {
	var at Position
	err := l.store.ReadOne(ctx, func(tx *store.Tx) error {
		return tx.Row(cursorStmt.get, name).Scan((*int64)(&at))
	})
	if errors.Is(err, store.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	return l.Age(ctx, at)
}

// Age is how long the oldest message behind a position has been in the log: zero
// if there is none.
func (l *Log) Age(ctx context.Context, after Position) (time.Duration, error) {
	next, err := l.Read(ctx, after, 1)
	if len(next) == 0 {
		return 0, err
	}
	return max(l.opts.Clock.Now().Sub(next[0].Time), 0), err
}
