package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
)

// A server that takes what it is sent and does not answer: callers are told, and
// all goes on when it does.
func TestServerHangs(t *testing.T) {
	p, url := newProxy(t, newDatabase(t))
	s, err := postgres.OpenHasty(t.Context(), url+"&connect_timeout=1", store.Options{Migrations: items, Readers: 1}, 200*time.Millisecond, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	readOne := func() error {
		return s.ReadOne(t.Context(), func(tx *store.Tx) error { _, err := backend(tx); return err })
	}
	read := func() error {
		return s.Read(t.Context(), func(tx *store.Tx) error { _, err := backend(tx); return err })
	}
	for _, fn := range []func() error{readOne, read} { // they are connected
		if err := fn(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 { // the first time on a connection, the second time without
		goOn := p.hang()
		for name, fn := range map[string]func() error{
			"a write":       func() error { return s.Write(t.Context(), put(fmt.Sprint("hung", i))) },
			"a read of one": readOne,
			"a read":        read,
		} {
			if err := fn(); !errors.Is(err, store.ErrUnavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if i == 1 {
			goOn()
			break
		}
		goOn()
		err := s.Write(t.Context(), func(tx *store.Tx) error {
			goOn = p.hang()
			return put("hung within")(tx)
		})
		goOn()
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("a write during which the server hangs: %v", err)
		}
	}
	for _, fn := range []func() error{readOne, read, func() error { return s.Write(t.Context(), put("after")) }} {
		// One may meet a connection that was made while nobody answered.
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			err := fn()
			if err == nil {
				break
			}
			if !errors.Is(err, store.ErrUnavailable) || time.Now().After(deadline) {
				t.Fatalf("afterwards: %v", err)
			}
		}
	}
	if got := names(t, s); len(got) != 1 || !got["after"] {
		t.Errorf("there is %v", got)
	}
}

// A process that stops in the midst of a transaction holds the others up for a
// moment, and has nothing stored.
func TestWriterStops(t *testing.T) {
	url := newDatabase(t)
	open := func() *store.Store {
		s, err := postgres.OpenHasty(t.Context(), url, store.Options{Migrations: items}, 20*time.Second, 300*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	stopped, other := open(), open()
	began, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- stopped.Write(context.Background(), func(tx *store.Tx) error {
			err := put("stopped")(tx)
			close(began)
			<-goOn
			return err
		})
	}()
	<-began
	if err := other.Write(t.Context(), put("other")); err != nil {
		t.Errorf("another process: %v", err)
	}
	close(goOn)
	if err := <-ended; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("the process that was stopped: %v", err)
	}
	if err := stopped.Write(t.Context(), put("again")); err != nil {
		t.Errorf("it goes on: %v", err)
	}
	if got := names(t, other); len(got) != 2 || !got["other"] || !got["again"] {
		t.Errorf("there is %v", got)
	}
}

// A statement that takes too long is ended, and those behind it go on.
func TestStatementTakesLong(t *testing.T) {
	s, err := postgres.OpenHasty(t.Context(), newDatabase(t), store.Options{Migrations: items}, 300*time.Millisecond, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sleep := store.SQL(`SELECT CAST(pg_sleep(60) AS TEXT)`)
	for name, do := range map[string]func(context.Context, func(*store.Tx) error) error{"write": s.Write, "read": s.Read, "read of one": s.ReadOne} {
		var text string
		err := do(t.Context(), func(tx *store.Tx) error { return tx.Row(sleep).Scan(&text) })
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Write(t.Context(), put("after")); err != nil {
		t.Error(err)
	}
}
