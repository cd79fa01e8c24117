package postgres_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
)

// The connection that listens ends: whoever watches is told that he may have
// missed something, and then hears again.
func TestListenerEnds(t *testing.T) {
	url := newDatabase(t)
	one, two := openItems(t, url), openItems(t, url)
	var lost atomic.Int64
	heard := make(chan string, 100)
	one.Watch("topic", func(s store.Signal) {
		if s.Lost {
			lost.Add(1)
		} else if s.Elsewhere {
			heard <- s.Detail
		}
	})
	say := func(detail string) {
		t.Helper()
		err := two.Write(t.Context(), func(tx *store.Tx) error { tx.Signal("topic", detail); return nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want string) {
		t.Helper()
		select {
		case got := <-heard:
			if got != want {
				t.Fatalf("heard %q, want %q", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%q was not heard", want)
		}
	}
	say("before")
	hear("before")
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE 'LISTEN %' AND pid <> pg_backend_pid()`); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); lost.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody was told that signals may be missing")
		}
	}
	say("after")
	hear("after")
}

// Who is alone has nobody to listen to.
func TestAlone(t *testing.T) {
	url := newDatabase(t)
	s, err := postgres.Open(t.Context(), url, store.Options{Migrations: items, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Shared() {
		t.Error("it is shared")
	}
	var listening int
	err = s.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row(store.SQL(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'`)).Scan(&listening)
	})
	if err != nil || listening != 0 {
		t.Errorf("%d connections listen, %v", listening, err)
	}
}
