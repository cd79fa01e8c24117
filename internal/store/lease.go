package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A lease is a row that says which process does a piece of background work. Its
// holder renews it every leaseBeat. Whoever waits for it takes it when it is gone
// or when he has seen it stay as it was for leaseDead, by his own clock; so the
// clocks of the processes need not agree. A holder who could not renew it stops
// after leaseStop, before anybody can have taken it.
const (
	leaseBeat = 5 * time.Second
	leaseStop = 8 * time.Second
	leaseDead = 10 * time.Second
)

// leaseTopic is signalled when a lease is given back.
const leaseTopic = "store/lease"

var leaseStmt = struct{ list, renew, take, free, held *Stmt }{
	list: SQL(`SELECT name, holder, expires FROM store_leases`),
	// The beat grows, whatever the clock does.
	renew: SQL(`
		UPDATE store_leases SET expires = CASE WHEN expires < ? THEN ? ELSE expires + 1 END
		WHERE holder = ? RETURNING name`),
	take: SQL(`
		INSERT INTO store_leases (name, holder, expires) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
		WHERE store_leases.holder = ? AND store_leases.expires = ?`),
	free: SQL(`DELETE FROM store_leases WHERE name = ? AND holder = ?`),
	held: SQL(`SELECT count(*) FROM store_leases`),
}

// RunLeased runs fn while no other process that shares the database runs one
// under the same name, and waits until it may. A process that ends, hangs or
// loses the database is followed by another one within 15 seconds; one that
// returns from fn, at once.
//
// fn's context ends with ctx, and when the lease cannot be kept up; in the latter
// case fn must return within two seconds, and is run again when the lease is won
// back. Otherwise RunLeased returns fn's error, and ctx's when that ended before.
//
// A store that is not Shared belongs to this process alone: fn runs at once.
func (s *Store) RunLeased(ctx context.Context, name string, fn func(context.Context) error) error {
	if s.keeper == nil {
		return fn(ctx)
	}
	for {
		l, err := s.keeper.acquire(ctx, name)
		if err != nil {
			return err
		}
		err = contain(func() error { return fn(l.ctx) })
		s.logPanic(err)
		lost := l.ctx.Err() != nil && ctx.Err() == nil
		s.keeper.giveBack(l)
		if !lost {
			return err
		}
		s.log.Warn("a lease could not be kept up; its work goes on here or in another process", "lease", name, "error", err)
	}
}

// keeper takes and renews the leases of this process: one statement for all that
// it holds, one for all that it waits for.
type keeper struct {
	store *Store

	mu      sync.Mutex
	leases  map[string]*held // wanted or held, by name
	seen    map[string]sighting
	stopped bool

	wake   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
}

// held is a lease that this process wants or has.
type held struct {
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	won    chan struct{} // closed when it is won
	mine   bool
	guard  *time.Timer // gives it up when it is not renewed
}

// sighting is a lease of another process as it was first seen.
type sighting struct {
	holder string
	beat   int64
	since  time.Time
}

func newKeeper(s *Store) *keeper {
	ctx, cancel := context.WithCancel(context.Background())
	k := &keeper{
		store: s, leases: map[string]*held{}, seen: map[string]sighting{},
		wake: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
	}
	s.Watch(leaseTopic, func(Signal) { k.nudge() })
	go k.loop(ctx)
	return k
}

func (k *keeper) nudge() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// stop ends the keeper; what is held is not renewed any more.
func (k *keeper) stop() {
	k.cancel()
	<-k.done
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopped = true
	for _, l := range k.leases {
		l.cancel()
	}
}

func (k *keeper) acquire(ctx context.Context, name string) (*held, error) {
	l := &held{name: name, won: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(ctx)
	k.mu.Lock()
	switch {
	case k.stopped:
		k.mu.Unlock()
		return nil, ErrClosed
	case k.leases[name] != nil:
		k.mu.Unlock()
		return nil, fmt.Errorf("this process runs %q already", name)
	}
	k.leases[name] = l
	k.mu.Unlock()
	k.nudge()
	select {
	case <-l.won:
		return l, nil
	case <-l.ctx.Done():
	}
	k.giveBack(l)
	if ctx.Err() == nil {
		return nil, ErrClosed
	}
	return nil, context.Cause(ctx)
}

// giveBack lets others have the lease, if it is ours.
func (k *keeper) giveBack(l *held) {
	l.cancel()
	k.mu.Lock()
	mine := l.mine
	if !mine {
		delete(k.leases, l.name) // should it be won at this moment, take frees it
	}
	k.mu.Unlock()
	if mine {
		l.guard.Stop()
		k.free(l.name)
		k.mu.Lock()
		delete(k.leases, l.name)
		k.mu.Unlock()
	}
}

func (k *keeper) free(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), leaseBeat)
	defer cancel()
	err := k.store.Write(ctx, func(tx *Tx) error {
		n, err := tx.Exec(leaseStmt.free, name, k.store.signals.node)
		if n > 0 {
			tx.Signal(leaseTopic, name)
		}
		return err
	})
	if err != nil {
		k.store.log.Warn("a lease could not be given back; it lapses by itself", "lease", name, "error", err)
	}
}

func (k *keeper) loop(ctx context.Context) {
	defer close(k.done)
	timer := time.NewTimer(leaseBeat)
	defer timer.Stop()
	for {
		timer.Reset(k.round(ctx))
		select {
		case <-k.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// round renews what is held, looks at what is wanted and takes what is free, and
// returns when to do so again.
func (k *keeper) round(ctx context.Context) time.Duration {
	began := time.Now()
	wanted, holding := k.count()
	next := leaseBeat
	var free []sighted
	if wanted > 0 {
		var err error
		if free, next, err = k.look(ctx, began); err != nil {
			k.complain(ctx, err)
		}
	}
	if holding || len(free) > 0 {
		if err := k.take(ctx, began, free); err != nil {
			k.complain(ctx, err)
		}
	}
	return max(next, 50*time.Millisecond)
}

func (k *keeper) complain(ctx context.Context, err error) {
	if ctx.Err() == nil {
		k.store.log.Warn("the leases of background work cannot be renewed", "error", err)
	}
}

func (k *keeper) count() (wanted int, holding bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, l := range k.leases {
		if l.mine {
			holding = true
		} else {
			wanted++
		}
	}
	return wanted, holding
}

// sighted is a lease that may be taken from who had it, if anybody had.
type sighted struct {
	name string
	sighting
}

// look finds what may be taken of what is wanted.
func (k *keeper) look(ctx context.Context, now time.Time) (free []sighted, next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseBeat)
	defer cancel()
	there := map[string]sighting{}
	err = k.store.ReadOne(ctx, func(tx *Tx) error {
		clear(there)
		rows := tx.Query(leaseStmt.list)
		for rows.Next() {
			var name string
			s := sighting{since: now}
			if err := rows.Scan(&name, &s.holder, &s.beat); err != nil {
				return err
			}
			there[name] = s
		}
		return rows.Err()
	})
	if err != nil {
		return nil, leaseBeat, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	next = leaseBeat
	for name, s := range there {
		if old, ok := k.seen[name]; ok && old.holder == s.holder && old.beat == s.beat {
			s.since = old.since
		}
		there[name] = s
	}
	k.seen = there
	for name, l := range k.leases {
		if l.mine {
			continue
		}
		s, taken := there[name]
		if age := now.Sub(s.since); !taken || s.holder == k.store.signals.node || age >= leaseDead {
			free = append(free, sighted{name, s})
		} else {
			next = min(next, leaseDead-age)
		}
	}
	return free, next, nil
}

// take renews what this process holds and takes what is free, unless another one
// was quicker.
func (k *keeper) take(ctx context.Context, now time.Time, free []sighted) error {
	ctx, cancel := context.WithTimeout(ctx, leaseBeat)
	defer cancel()
	mine := map[string]bool{}
	node := k.store.signals.node
	beat := k.store.clock.Now().Add(leaseDead)
	write := k.store.Write
	if len(free) == 0 { // to renew is one statement, and concerns nobody else
		write = k.store.writer.submitOne
	}
	err := write(ctx, func(tx *Tx) error {
		clear(mine)
		for _, s := range free {
			n, err := tx.Exec(leaseStmt.take, s.name, node, beat, s.holder, s.beat)
			if err != nil {
				return err
			}
			mine[s.name] = n == 1
		}
		rows := tx.Query(leaseStmt.renew, beat, beat, node)
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return err
			}
			mine[name] = true
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	for _, name := range k.won(mine, now) {
		k.free(name)
	}
	return nil
}

// won notes what this process holds, and returns what nobody here wants any more.
func (k *keeper) won(mine map[string]bool, now time.Time) (unwanted []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, l := range k.leases {
		switch {
		case mine[name] && !l.mine:
			l.mine = true
			l.guard = time.AfterFunc(time.Until(now.Add(leaseStop)), l.cancel)
			close(l.won)
		case mine[name]:
			l.guard.Reset(time.Until(now.Add(leaseStop)))
		case l.mine: // somebody else has it
			l.cancel()
		}
	}
	for name, is := range mine {
		if is && k.leases[name] == nil {
			unwanted = append(unwanted, name)
		}
	}
	return unwanted
}

// LeasesHeld counts the leases that processes hold. There are none in a store
// that is not Shared.
func (s *Store) LeasesHeld(ctx context.Context) (n int64, err error) {
	err = s.ReadOne(ctx, func(tx *Tx) error { return tx.Row(leaseStmt.held).Scan(&n) })
	return n, err
}
