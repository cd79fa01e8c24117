package events

import (
	"context"
	"sync"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

var trimStmt = struct{ newest, slowest, remove, lags, forget *store.Stmt }{
	newest:  store.SQL(`SELECT max(id) FROM events_log`),
	slowest: store.SQL(`SELECT min(position) FROM events_cursors`),
	// Looks at the oldest rows only, however long the log is.
	remove: store.SQL(`
		DELETE FROM events_log WHERE id IN (
			SELECT id FROM (SELECT id, time FROM events_log ORDER BY id LIMIT ?) AS oldest
			WHERE id < ? AND (time < ? OR (time < ? AND id < ?)))`),
	lags:   store.SQL(`SELECT name, position, updated FROM events_cursors ORDER BY name`),
	forget: store.SQL(`DELETE FROM events_cursors WHERE name = ?`),
}

// trimRows is the number of rows removed in one transaction.
const trimRows = 1000

// Trim removes rows that are older than Options.Retention and that all durable
// consumers have passed, and all that are older than Options.HardCap. The
// newest row stays, so that numbers are never given out twice. It returns the
// number of rows removed.
func (l *Log) Trim(ctx context.Context) (removed int64, err error) {
	if l.broken != nil {
		return 0, l.broken
	}
	for {
		var n int64
		err = l.store.Write(ctx, func(tx *store.Tx) error {
			n = 0
			var newest, slowest *int64
			if err := tx.Row(trimStmt.newest).Scan(&newest); err != nil || newest == nil {
				return err
			}
			if err := tx.Row(trimStmt.slowest).Scan(&slowest); err != nil {
				return err
			}
			passed := *newest
			if slowest != nil {
				passed = Position(*slowest).row()
			}
			now := l.opts.Clock.Now()
			n, err = tx.Exec(trimStmt.remove, trimRows, *newest, now.Add(-l.opts.HardCap), now.Add(-l.opts.Retention), passed)
			return err
		})
		removed += n
		if err != nil || n < trimRows {
			return removed, err
		}
	}
}

// Run does the log's background work until ctx ends: it looks for what other
// processes published, should their signals be missed, and trims the log, now
// and then every hour, in one process at a time.
func (l *Log) Run(ctx context.Context) error {
	if l.store.Shared() {
		var follower sync.WaitGroup
		follower.Go(func() { l.follow(ctx) })
		defer follower.Wait()
	}
	return l.store.Repeat(ctx, "events/trim", time.Hour, func(ctx context.Context) error {
		removed, err := l.Trim(ctx)
		if removed > 0 {
			l.opts.Log.Info("the event log was trimmed", "rows", removed)
		}
		return err
	})
}

// Lag is how far a durable consumer has come.
type Lag struct {
	Consumer string
	Position Position   // everything up to here was handled, or did not concern it
	Updated  clock.Time // when it last said so
}

// Consumers lists the durable consumers by name. One that no longer exists
// keeps rows from being trimmed until Forget.
func (l *Log) Consumers(ctx context.Context) ([]Lag, error) {
	var lags []Lag
	err := l.store.Read(ctx, func(tx *store.Tx) error {
		rows := tx.Query(trimStmt.lags)
		defer rows.Close()
		for rows.Next() {
			var lag Lag
			if err := rows.Scan(&lag.Consumer, (*int64)(&lag.Position), &lag.Updated); err != nil {
				return err
			}
			lags = append(lags, lag)
		}
		return rows.Err()
	})
	// Consumers save their place when they have handled something; what they
	// passed since is known where they run.
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range lags {
		if c := l.consumers[lags[i].Consumer]; c != nil {
			lags[i].Position = max(lags[i].Position, Position(c.passed.Load()))
		}
	}
	return lags, err
}

// Forget removes a durable consumer's place in the log. Its dead letters stay.
func (l *Log) Forget(ctx context.Context, consumer string) error {
	return l.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(trimStmt.forget, consumer)
		return err
	})
}
