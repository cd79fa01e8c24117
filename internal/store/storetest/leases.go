//go:build unix

package storetest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"taskcluster/internal/store"
)

// leases: work that one process does at a time, handed over when it stops.
func (s suite) leases(t *testing.T) {
	name := s.New(t)
	one := s.reopen(t, name, store.Options{})
	if err := one.RunLeased(t.Context(), "job", func(context.Context) error { return errTrouble }); !errors.Is(err, errTrouble) {
		t.Errorf("the work's error: %v", err)
	}
	if !one.Shared() {
		before := one.Stats()
		if err := one.RunLeased(t.Context(), "job", func(context.Context) error { return nil }); err != nil || one.Stats() != before {
			t.Errorf("alone: %v, %+v, then %+v", err, before, one.Stats())
		}
		return
	}
	two := s.reopen(t, name, store.Options{})
	var running atomic.Int32
	starts := make(chan *store.Store, 10)
	work := func(db *store.Store, job string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- db.RunLeased(ctx, job, func(ctx context.Context) error {
				if job == "job" && running.Add(1) > 1 {
					t.Error("two run at once")
				}
				starts <- db
				<-ctx.Done()
				if job == "job" {
					running.Add(-1)
				}
				return ctx.Err()
			})
		}()
		return func() {
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
		}
	}
	next := func(want *store.Store) {
		t.Helper()
		select {
		case got := <-starts:
			if got != want {
				t.Error("another one has it")
			}
		case <-time.After(60 * time.Second):
			t.Fatal("nobody has it")
		}
	}
	stopOne := work(one, "job")
	next(one)
	stopTwo := work(two, "job")
	stopOther := work(two, "another job")
	next(two) // the other job
	if err := two.RunLeased(t.Context(), "job", func(context.Context) error { return nil }); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("twice in one process: %v", err)
	}
	began := time.Now()
	stopOne()
	next(two)
	t.Logf("it was handed over in %v", time.Since(began))
	stopOther()
	stopTwo()
	waiting := work(one, "job")
	next(one)
	// Whoever waits and gives up leaves nothing behind.
	given := work(two, "job")
	given()
	waiting()
	again := work(two, "job")
	next(two)
	again()
}
