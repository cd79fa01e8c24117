package events

import (
	"context"
	"errors"
	"sync"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

var trimStmt = struct{ newest, remove, lags, lose, lost, forget *store.Stmt }{
	newest: store.SQL(`SELECT max(id) FROM events_log`),
	// Looks at the oldest rows only, however long the log is. The events are read
	// of those rows that somebody has not passed.
	remove: store.SQL(`
		DELETE FROM events_log WHERE id IN (
			SELECT id FROM (SELECT id, time FROM events_log ORDER BY id LIMIT ?) AS oldest
			WHERE id < ? AND (time < ? OR (time < ? AND id < ?)))
		RETURNING id, CASE WHEN id >= ? THEN events END`),
	lags:   store.SQL(`SELECT name, position, updated, lost FROM events_cursors ORDER BY name`),
	lose:   store.SQL(`UPDATE events_cursors SET lost = lost + ? WHERE name = ?`),
	lost:   store.SQL(`SELECT lost FROM events_cursors WHERE name = ?`),
	forget: store.SQL(`DELETE FROM events_cursors WHERE name = ?`),
}

// trimRows is the number of rows removed in one transaction.
const trimRows = 1000

// Trim removes rows that are older than Options.Retention and that all durable
// consumers have passed, and all that are older than Options.HardCap. The
// newest row stays, so that numbers are never given out twice. It returns the
// number of rows removed.
//
// What a consumer had not come past by then is lost to it: that is counted (see
// Lag), and logged once until a further Trim takes nothing from that consumer.
func (l *Log) Trim(ctx context.Context) (removed int64, err error) {
	if l.broken != nil {
		return 0, l.broken
	}
	lost := map[string]int64{}
	for more := true; more && err == nil; {
		var n int64
		var some map[string]int64
		err = l.store.Write(ctx, func(tx *store.Tx) (err error) {
			n, some, err = l.trim(tx)
			return err
		})
		if err == nil {
			removed += n
			for name, events := range some {
				lost[name] += events
			}
		}
		more = n == trimRows
	}
	l.tellLost(lost)
	return removed, err
}

// trim removes some rows, and tells how many events whom that takes.
func (l *Log) trim(tx *store.Tx) (rows int64, lost map[string]int64, err error) {
	var newest *int64
	if err := tx.Row(trimStmt.newest).Scan(&newest); err != nil || newest == nil {
		return 0, nil, err
	}
	lags, err := readLags(tx)
	if err != nil {
		return 0, nil, err
	}
	passed := *newest // by all
	for _, lag := range lags {
		passed = min(passed, lag.Position.row())
	}
	l.ahead(lags)
	now := l.opts.Clock.Now()
	removed := tx.Query(trimStmt.remove, trimRows, *newest, now.Add(-l.opts.HardCap), now.Add(-l.opts.Retention), passed, passed)
	defer removed.Close()
	lost = map[string]int64{}
	for removed.Next() {
		var row int64
		var encoded []byte
		if err := removed.Scan(&row, &encoded); err != nil {
			return 0, nil, err
		}
		rows++
		if encoded == nil {
			continue
		}
		events, err := decode(encoded)
		if err != nil {
			l.opts.Log.Error("a row of the event log was removed that cannot be read", "row", row, "error", err)
			continue
		}
		for _, lag := range lags {
			if n := int64(position(row, len(events)-1) - max(lag.Position, position(row, -1))); n > 0 {
				lost[lag.Consumer] += n
			}
		}
	}
	if err := removed.Err(); err != nil {
		return 0, nil, err
	}
	for name, n := range lost {
		if _, err := tx.Exec(trimStmt.lose, n, name); err != nil {
			return 0, nil, err
		}
	}
	return rows, lost, nil
}

// tellLost logs who begins to lose events.
func (l *Log) tellLost(lost map[string]int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, n := range lost {
		if l.losing[name] == 0 {
			l.opts.Log.Error("events are lost to a consumer: it has not come to them for longer than the event log keeps them",
				"consumer", name, "lost", n, "kept", l.opts.HardCap.String())
		}
	}
	l.losing = lost
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
	// Lost is how many events were ever removed from the log before it had come
	// past them, those included that would not have concerned it.
	Lost int64
}

// Consumers lists the durable consumers by name. One that no longer exists
// keeps rows from being trimmed until Forget.
func (l *Log) Consumers(ctx context.Context) ([]Lag, error) {
	var lags []Lag
	err := l.store.Read(ctx, func(tx *store.Tx) (err error) {
		lags, err = readLags(tx)
		return err
	})
	l.ahead(lags)
	return lags, err
}

// ahead corrects the places of consumers that run here. They save them when they
// have handled something; what they passed since is known where they run.
func (l *Log) ahead(lags []Lag) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range lags {
		if c := l.consumers[lags[i].Consumer]; c != nil {
			lags[i].Position = max(lags[i].Position, Position(c.passed.Load()))
		}
	}
}

func readLags(tx *store.Tx) (lags []Lag, err error) {
	rows := tx.Query(trimStmt.lags)
	defer rows.Close()
	for rows.Next() {
		var lag Lag
		if err := rows.Scan(&lag.Consumer, (*int64)(&lag.Position), &lag.Updated, &lag.Lost); err != nil {
			return nil, err
		}
		lags = append(lags, lag)
	}
	return lags, rows.Err()
}

// Lost is Lag.Lost of one durable consumer, 0 if there is no such one.
func (l *Log) Lost(ctx context.Context, consumer string) (events int64, err error) {
	err = l.store.ReadOne(ctx, func(tx *store.Tx) error { return tx.Row(trimStmt.lost, consumer).Scan(&events) })
	if errors.Is(err, store.ErrNoRows) {
		err = nil
	}
	return events, err
}

// Forget removes a durable consumer's place in the log. Its dead letters stay.
func (l *Log) Forget(ctx context.Context, consumer string) error {
	return l.store.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(trimStmt.forget, consumer)
		return err
	})
}
