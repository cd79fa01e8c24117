package events

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

// twoLogs are the logs of two processes that share a store, or nothing where the
// engine does not allow that.
func twoLogs(t *testing.T) (stores [2]*store.Store, logs [2]*Log) {
	t.Helper()
	dir := t.TempDir()
	for i := range logs {
		stores[i] = storetest.OpenIn(t, dir, store.Options{Migrations: []store.Migrations{Migrations}})
		if !stores[i].Shared() {
			return stores, [2]*Log{}
		}
		logs[i] = NewLog(stores[i], Options{Backoff: time.Millisecond})
	}
	return stores, logs
}

// What one process publishes wakes those who wait in another.
func TestOtherProcessPublishes(t *testing.T) {
	stores, logs := twoLogs(t)
	if logs[0] == nil {
		return // SQLite's file belongs to one process
	}
	for i := range 20 {
		from, to := i%2, 1-i%2
		changed := logs[to].Changed()
		publish(t, stores[from], logs[from], i, i+1)
		head := logs[from].Head()
		for deadline := time.After(30 * time.Second); logs[to].Head() < head; changed = logs[to].Changed() {
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("the head is %d here and %d there", logs[to].Head(), head)
			}
		}
		if got := logs[to].Head(); got != head {
			t.Fatalf("the head is %d here and %d there", got, head)
		}
	}
	if got := numbers(t, logs[1], 0, 7); len(got) != 20 {
		t.Errorf("%d messages", len(got))
	}
}

// Of the consumers of a name in two processes one runs; when it stops the other
// goes on where it was, and nothing comes twice or not at all.
func TestConsumerMovesToAnotherProcess(t *testing.T) {
	stores, logs := twoLogs(t)
	if logs[0] == nil {
		return
	}
	type seen struct {
		process int
		payload string
	}
	handled := make(chan seen, 100)
	var inside atomic.Int32
	var stops [2]func()
	start := func(process int) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() {
			ended <- logs[process].Consume(ctx, "c", all, func(_ context.Context, m Message) error {
				if inside.Add(1) > 1 {
					t.Error("two consumers run at once")
				}
				defer inside.Add(-1)
				handled <- seen{process, string(m.Payload)}
				return nil
			})
		}()
		stops[process] = func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the consumer ended with %v", err)
			}
		}
	}
	next, runs := 0, -1
	// more publishes from both processes, and looks who gets it.
	more := func(n int) {
		t.Helper()
		for i := range n {
			publish(t, stores[i%2], logs[i%2], next+i, next+i+1)
		}
		for range n {
			select {
			case s := <-handled:
				if want := fmt.Sprintf(`{"n":%d}`, next); s.payload != want {
					t.Fatalf("got %s, want %s", s.payload, want)
				}
				if runs >= 0 && s.process != runs {
					t.Fatalf("process %d handled it, though %d runs", s.process, runs)
				}
				runs = s.process
			case <-time.After(60 * time.Second):
				t.Fatalf("message %d does not come", next)
			}
			next++
		}
	}
	start(0)
	for len(running(t, logs[0])) == 0 {
		time.Sleep(time.Millisecond)
	}
	start(1)
	more(10)
	for range 4 {
		was := runs
		stops[was]()
		runs = 1 - was
		more(10)
		start(was)
	}
	stops[0]()
	stops[1]()
}
