package amqp

import (
	"flag"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/testenv"
)

var faults = flag.Int("amqp.faults", 3, "how often TestFaults restarts the broker, and cuts and partitions the connection")

// While events are published without a pause, the broker is killed and started,
// the connection cut, and the network partitioned, until the broker and the
// relay have noticed or before. Every event comes, none before an earlier one,
// and again only stretches of the window.
func TestFaults(t *testing.T) {
	proxy := testenv.StartProxy(t, server.Addr)
	w := newWorld(t, proxy.Addr)
	w.start()
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if w.published.Load() < w.relay.Published()+3*window { // enough for what a fault takes
					w.publish(50)
				}
				time.Sleep(2 * time.Millisecond)
			}
		}
	})
	more := func(n int64) {
		t.Helper()
		from := w.relay.Published()
		eventually(t, "the relay goes on", func() bool { return w.relay.Published() >= from+n })
	}
	more(500)
	for i := range *faults {
		proxy.Cut()
		more(200)
		proxy.Partition(true)
		if i%2 == 0 {
			eventually(t, "the relay notices", func() bool { return !w.relay.Connected() })
		} else {
			time.Sleep(time.Duration(i%7) * 100 * time.Millisecond) // shorter than it takes to notice
		}
		proxy.Partition(false)
		more(200)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		more(200)
	}
	close(stop)
	load.Wait()
	again := w.drain()
	t.Logf("%d events, %d came again after %d faults", w.published.Load(), again, 3**faults)
}
