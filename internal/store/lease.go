package store

import (
	"context"
	"errors"
	"time"

	"taskcluster/internal/clock"
)

// Lease is the right to do a piece of background work until it expires.
type Lease struct {
	store        *Store
	name, holder string
	ttl          time.Duration
	expires      clock.Time
}

var leaseStmt = struct{ take, release, held *Stmt }{
	take: SQL(`
		INSERT INTO store_leases (name, holder, expires) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
		WHERE store_leases.holder = excluded.holder OR store_leases.expires <= ?`),
	release: SQL(`DELETE FROM store_leases WHERE name = ? AND holder = ?`),
	held:    SQL(`SELECT count(*) FROM store_leases WHERE expires > ?`),
}

// Lease takes the named lease for holder, if it is free, expired, or already
// his; ok tells whether it is his now. holder is unique to a process.
func (s *Store) Lease(ctx context.Context, name, holder string, ttl time.Duration) (lease *Lease, ok bool, err error) {
	if name == "" || holder == "" || ttl <= 0 {
		return nil, false, errors.New("a lease needs a name, a holder and a positive duration")
	}
	l := &Lease{store: s, name: name, holder: holder, ttl: ttl}
	if ok, err = l.Renew(ctx); !ok {
		return nil, false, err
	}
	return l, true, nil
}

// Renew extends the lease by its duration from now. ok is false when somebody
// else has taken it after it expired.
func (l *Lease) Renew(ctx context.Context) (ok bool, err error) {
	err = l.store.Write(ctx, func(tx *Tx) error {
		// The clock, not tx.Now: this instant is compared with those of other processes.
		now := l.store.clock.Now()
		n, err := tx.Exec(leaseStmt.take, l.name, l.holder, now.Add(l.ttl), now)
		ok = n == 1
		l.expires = now.Add(l.ttl)
		return err
	})
	return ok && err == nil, err
}

// Expires is the instant at which the lease ends unless it is renewed.
func (l *Lease) Expires() clock.Time { return l.expires }

// Release gives the lease back at once.
func (l *Lease) Release(ctx context.Context) error {
	return l.store.Write(ctx, func(tx *Tx) error {
		_, err := tx.Exec(leaseStmt.release, l.name, l.holder)
		return err
	})
}

// LeasesHeld counts the leases that somebody holds and that have not expired.
func (s *Store) LeasesHeld(ctx context.Context) (n int64, err error) {
	err = s.Read(ctx, func(tx *Tx) error { return tx.Row(leaseStmt.held, s.clock.Now()).Scan(&n) })
	return n, err
}
