package postgres_test

import (
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/testenv"
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

// A connection that is there and tells nothing: it is known that it does, reading
// and writing go on, and when it is said again that signals are heard, none is
// missing.
func TestListenerDeaf(t *testing.T) {
	direct := newDatabase(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.StartProxy(t, u.Host)
	u.Host = proxy.Addr
	one, two := openItems(t, u.String()), openItems(t, direct)
	var told atomic.Bool
	one.Watch("topic", func(s store.Signal) {
		if s.Elsewhere {
			told.Store(true)
		}
	})
	until := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within a minute: %s", what)
			}
		}
	}
	until("signals are heard", one.Current)
	for _, seconds := range []time.Duration{0, 12} { // it is noticed; the connection is given up, and no other made
		proxy.Mute("LISTEN")
		told.Store(false)
		if err := two.Write(t.Context(), func(tx *store.Tx) error { tx.Signal("topic", "change"); return nil }); err != nil {
			t.Fatal(err)
		}
		for changed := time.Now(); !told.Load(); time.Sleep(time.Millisecond) {
			if asked := time.Now(); one.Current() && !told.Load() && asked.Sub(changed) > store.Delay {
				t.Fatalf("%v after a change nothing was heard of it, and memory is called current", asked.Sub(changed))
			}
			if time.Since(changed) > store.Delay+seconds*time.Second {
				break
			}
		}
		if one.Current() {
			t.Error("memory is called current, and nothing can be heard")
		}
		if err := one.Write(t.Context(), put("deaf"+seconds.String())); err != nil {
			t.Error(err)
		}
		proxy.Mute("")
		until("signals are heard again", one.Current)
		if !told.Load() {
			t.Error("memory is called current, and a change was not told of")
		}
	}
	until("a process that hears is current", two.Current)
}
