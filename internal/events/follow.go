package events

import (
	"context"
	"errors"
	"strconv"
	"time"

	"taskcluster/internal/store"
)

// headTopic is signalled with the position of the last message of a commit.
const headTopic = "events/head"

// followEvery is how often the head is looked for, in case a signal was missed.
const followEvery = 30 * time.Second

// heard takes the signal of another process.
func (l *Log) heard(s store.Signal) {
	p, err := strconv.ParseInt(s.Detail, 10, 64)
	switch {
	case s.Lost || err != nil:
		select {
		case l.stale <- struct{}{}:
		default:
		}
	case s.Elsewhere:
		l.advance(Position(p))
	}
}

// advance moves the head forward and wakes those who wait for that.
func (l *Log) advance(to Position) {
	for {
		old := l.head.Load()
		if old >= int64(to) {
			return
		}
		if l.head.CompareAndSwap(old, int64(to)) {
			l.notify()
			return
		}
	}
}

// readHead reads the position of the last message, 0 when there is none.
func readHead(tx *store.Tx) (Position, error) {
	var row int64
	var encoded []byte
	err := tx.Row(logStmt.last).Scan(&row, &encoded)
	if errors.Is(err, store.ErrNoRows) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	events, err := decode(encoded)
	return position(row, len(events)-1), err
}

// refresh brings the head up to date with the store.
func (l *Log) refresh(ctx context.Context) error {
	var head Position
	err := l.store.ReadOne(ctx, func(tx *store.Tx) (err error) {
		head, err = readHead(tx)
		return err
	})
	if err == nil {
		l.advance(head)
	}
	return err
}

// follow looks for the head when signals were missed, and now and then.
func (l *Log) follow(ctx context.Context) {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		select {
		case <-l.stale:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := l.refresh(ctx); err != nil && ctx.Err() == nil {
			l.opts.Log.Warn("it cannot be seen what other processes published", "error", err)
		}
	}
}
