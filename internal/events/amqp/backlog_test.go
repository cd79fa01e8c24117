package amqp

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"taskcluster/internal/events"
	"taskcluster/internal/store"
)

var backlog = flag.Int64("amqp.backlog", 200_000, "how many events TestBacklog publishes while the broker is down")

// What gathers in an hour without a broker is mirrored when it is back: each event
// once, in order, and in memory that does not depend on how many there are.
func TestBacklog(t *testing.T) {
	w := newWorld(t, server.Addr)
	w.start()
	w.publish(100)
	eventually(t, "the relay mirrors", func() bool { return w.relay.Published() == 100 })
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	restarted := false
	defer func() {
		if !restarted {
			server.Start()
		}
	}()
	eventually(t, "the loss is noticed", func() bool { return !w.relay.Connected() })
	const payload, commit = 1000, 500
	text := strings.Repeat("x", payload)
	for n := w.published.Load(); n < *backlog; n = w.published.Load() {
		if err := w.store.Write(t.Context(), func(tx *store.Tx) error {
			for i := range int64(commit) {
				e := w.event(n + 1 + i)
				e.Payload = fmt.Appendf(nil, `{"n":%d,"text":%q}`, n+1+i, text)
				w.log.Publish(tx, e)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		w.published.Store(n + commit)
	}
	if n := w.relay.Published(); n != 100 {
		t.Fatalf("%d are mirrored", n)
	}
	if behind, err := w.log.Behind(t.Context(), Consumer); err != nil || behind <= 0 {
		t.Errorf("behind by %v, %v", behind, err)
	}
	before := living()
	ctx, cancel := context.WithCancel(t.Context())
	var most atomic.Uint64
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			most.Store(max(most.Load(), living()))
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	restarted = true
	if again := w.drain(); again != 0 {
		t.Errorf("%d messages came again", again)
	}
	cancel()
	<-watched
	grown := (int64(most.Load()) - int64(before)) >> 20
	t.Logf("%d events of %d MB were mirrored with at most %d MB more of memory", w.published.Load(), w.published.Load()*payload>>20, grown)
	if grown > 64 {
		t.Errorf("the memory grew by %d MB", grown)
	}
	eventually(t, "nothing is behind", func() bool {
		behind, err := w.log.Behind(t.Context(), Consumer)
		return err == nil && behind == 0
	})
}

// living is how much memory lives, in bytes.
func living() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What is read at once is bounded by bytes, too: large events are mirrored a few
// at a time.
func TestLargeEvents(t *testing.T) {
	w := newWorld(t, server.Addr)
	const each, count = 1 << 20, 100
	text := strings.Repeat("p", each)
	for n := range int64(count) {
		if err := w.store.Write(t.Context(), func(tx *store.Tx) error {
			e := w.event(n + 1)
			e.Payload = []byte(`"` + text + `"`)
			w.log.Publish(tx, e)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		w.published.Store(n + 1)
	}
	var most int
	var got []events.Message
	for after := events.Position(0); len(got) < count; after = got[len(got)-1].Position {
		messages, err := w.log.Read(t.Context(), after, portion)
		if err != nil || len(messages) == 0 {
			t.Fatalf("%d of %d: %v", len(got), count, err)
		}
		most = max(most, len(messages))
		got = append(got, messages...)
	}
	if most*each > 2*events.MaxPayload {
		t.Errorf("%d MB were read at once", most)
	}
	w.start()
	w.drain()
}
