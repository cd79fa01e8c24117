package amqp

import (
	"strings"
	"testing"
	"time"

	"taskcluster/internal/events"
	"taskcluster/internal/testenv"
)

// A mirror that comes too late says once that events are lost to it, and once, when
// it has caught up, how many are.
func TestLost(t *testing.T) {
	proxy := testenv.StartProxy(t, server.Addr)
	w := newWorld(t, proxy.Addr)
	w.log = events.NewLog(w.store, events.Options{Retention: time.Nanosecond, HardCap: time.Nanosecond, Backoff: 50 * time.Millisecond})
	w.connectTo("amqp://guest:guest@" + proxy.Addr + "/")
	w.relay.cfg.watch = 50 * time.Millisecond
	proxy.Partition(true)
	w.start()
	logged := func(text string) int { return strings.Count(w.logs.String(), text) }
	w.publish(100) // two commits
	eventually(t, "the mirror is said to be behind", func() bool { return logged("is behind") > 0 })
	if n, err := w.log.Trim(t.Context()); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	eventually(t, "the loss is told", func() bool { return logged("its readers will miss events") > 0 })
	proxy.Partition(false)
	deliveries, err := w.channel().Consume(w.queue, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for want := int64(51); want <= 100; want++ {
		if got := number(t, <-deliveries); got != want {
			t.Fatalf("message %d came, want %d", got, want)
		}
	}
	eventually(t, "the gap is told", func() bool { return logged("has caught up, with a gap") > 0 })
	w.publish(50)
	eventually(t, "it goes on", func() bool { return w.relay.Published() == 100 })
	time.Sleep(5 * w.relay.cfg.watch) // for what must not be said again
	for _, text := range []string{"its readers will miss events", "has caught up, with a gap"} {
		if n := logged(text); n != 1 {
			t.Errorf("%q was logged %d times:\n%s", text, n, w.logs)
		}
	}
	if n := logged("lost=50"); n != 2 {
		t.Errorf("the number is in %d lines:\n%s", n, w.logs)
	}
}
