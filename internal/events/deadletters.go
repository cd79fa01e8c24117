package events

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// DeadLetter is a message that a consumer could not handle.
type DeadLetter struct {
	ID       int64
	Consumer string
	Message  Message
	Attempts int
	Error    string     // of the last attempt, at most 1,000 bytes
	Died     clock.Time // when the last attempt failed
	Replay   bool       // it was given back to the consumer and waits for it
}

// ErrNoDeadLetter is returned for a dead letter that is not there.
var ErrNoDeadLetter = errors.New("there is no such dead letter")

var deadStmt = struct{ bury, list, replayed, replay, failed, remove *store.Stmt }{
	bury: store.SQL(`
		INSERT INTO events_dead_letters (consumer, position, time, event, attempts, error, died, replay) VALUES (?, ?, ?, ?, ?, ?, ?, 0)
		ON CONFLICT (consumer, position) DO UPDATE SET attempts = excluded.attempts, error = excluded.error, died = excluded.died, replay = 0`),
	list: store.SQL(`
		SELECT id, consumer, position, time, event, attempts, error, died, replay
		FROM events_dead_letters WHERE id > ? ORDER BY id LIMIT ?`),
	replayed: store.SQL(`
		SELECT id, consumer, position, time, event, attempts, error, died, replay
		FROM events_dead_letters WHERE consumer = ? AND replay = 1 AND id > ? ORDER BY id LIMIT 1`),
	replay: store.SQL(`UPDATE events_dead_letters SET replay = 1 WHERE id = ?`),
	failed: store.SQL(`UPDATE events_dead_letters SET replay = 0, attempts = attempts + 1, error = ?, died = ? WHERE id = ?`),
	remove: store.SQL(`DELETE FROM events_dead_letters WHERE id = ?`),
}

// DeadLetters lists up to limit dead letters whose ID is greater than after,
// in the order of their IDs.
func (l *Log) DeadLetters(ctx context.Context, after int64, limit int) ([]DeadLetter, error) {
	var list []DeadLetter
	err := l.store.Read(ctx, func(tx *store.Tx) error {
		rows := tx.Query(deadStmt.list, after, limit)
		defer rows.Close()
		for rows.Next() {
			letter, err := scanLetter(rows.Scan)
			if err != nil {
				return err
			}
			list = append(list, letter)
		}
		return rows.Err()
	})
	return list, err
}

func scanLetter(scan func(...any) error) (DeadLetter, error) {
	var d DeadLetter
	var event []byte
	m := &d.Message
	if err := scan(&d.ID, &d.Consumer, (*int64)(&m.Position), &m.Time, &event, &d.Attempts, &d.Error, &d.Died, &d.Replay); err != nil {
		return d, err
	}
	events, err := decode(event)
	if err != nil || len(events) != 1 {
		return d, fmt.Errorf("dead letter %d: %w", d.ID, errCorrupt)
	}
	m.Event, m.Redelivered = events[0], true
	return d, nil
}

// Replay gives a dead letter back to its consumer, which tries it once more,
// at once if it runs and otherwise when it starts. If that succeeds the dead
// letter is gone; if not it stays, with the new error.
func (l *Log) Replay(ctx context.Context, id int64) error {
	return l.change(ctx, deadStmt.replay, id)
}

// Discard removes a dead letter.
func (l *Log) Discard(ctx context.Context, id int64) error {
	return l.change(ctx, deadStmt.remove, id)
}

func (l *Log) change(ctx context.Context, q *store.Stmt, id int64) error {
	return l.store.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(q, id)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNoDeadLetter
		}
		tx.Signal(replayTopic, "")
		return nil
	})
}

// replayTopic tells the consumers, wherever they run, that a dead letter was
// given back.
const replayTopic = "events/replay"

// replayed is told so.
func (l *Log) replayed(store.Signal) {
	l.mu.Lock()
	l.replays++
	l.mu.Unlock()
	l.notify()
}

// bury makes m a dead letter and moves the cursor past it, in one transaction.
func (c *consumer) bury(ctx context.Context, m Message, attempts int, cause error) error {
	var enc encoder
	enc.reset()
	enc.add(&m.Event)
	err := c.log.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(deadStmt.bury, c.name, int64(m.Position), m.Time, enc.buf, attempts, errorText(cause), tx.Now())
		if err != nil {
			return err
		}
		_, err = tx.Exec(cursorStmt.set, c.name, int64(m.Position), tx.Now())
		return err
	})
	if err == nil {
		c.at, c.saved = m.Position, m.Position
	}
	return err
}

func errorText(err error) string {
	text := err.Error()
	return strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), 1000)], "?"), "\x00", "?")
}

// replay tries the consumer's dead letters that were given back, each once.
func (c *consumer) replay(ctx context.Context) error {
	l := c.log
	l.mu.Lock()
	wanted := l.replays + 1 // the first look is at the start
	l.mu.Unlock()
	if c.replays == wanted {
		return nil
	}
	for last := int64(0); ctx.Err() == nil; {
		var letter DeadLetter
		err := l.store.Read(ctx, func(tx *store.Tx) (err error) {
			letter, err = scanLetter(tx.Row(deadStmt.replayed, c.name, last).Scan)
			return err
		})
		if errors.Is(err, store.ErrNoRows) {
			c.replays = wanted
			return nil
		} else if err != nil {
			return err
		}
		last = letter.ID
		failure := c.call(ctx, letter.Message)
		if failure != nil && ctx.Err() != nil {
			return nil
		}
		err = l.store.Write(ctx, func(tx *store.Tx) error {
			if failure == nil {
				_, err := tx.Exec(deadStmt.remove, letter.ID)
				return err
			}
			_, err := tx.Exec(deadStmt.failed, errorText(failure), tx.Now(), letter.ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
