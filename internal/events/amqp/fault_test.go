package amqp

import (
	"flag"
	"net"
	"sync"
	"testing"
	"time"
)

var faults = flag.Int("amqp.faults", 3, "how often TestFaults restarts the broker, and cuts and partitions the connection")

// proxy stands between a client and the broker.
type proxy struct {
	addr string

	mu    sync.Mutex
	conns map[net.Conn]bool
	hole  chan struct{} // while it is open, nothing passes and nobody is told
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{addr: l.Addr().String(), conns: map[net.Conn]bool{}, hole: make(chan struct{})}
	close(p.hole)
	t.Cleanup(func() {
		l.Close()
		p.heal()
		p.cut()
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			p.mu.Lock()
			p.conns[client], p.conns[server] = true, true
			p.mu.Unlock()
			go p.pass(client, server)
			go p.pass(server, client)
		}
	}()
	return p
}

func (p *proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		hole := p.hole
		p.mu.Unlock()
		<-hole // what was read is late, not lost, as in a network that heals
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections at once.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
	clear(p.conns)
}

// partition swallows what comes until heal, which lets it pass.
func (p *proxy) partition() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hole = make(chan struct{})
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.hole:
	default:
		close(p.hole)
	}
}

// While events are published without a pause, the broker is killed and started,
// the connection cut, and the network partitioned, until the broker and the
// relay have noticed or before. Every event comes, none before an earlier one,
// and again only stretches of the window.
func TestFaults(t *testing.T) {
	proxy := newProxy(t, server.Addr)
	w := newWorld(t, proxy.addr)
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
		proxy.cut()
		more(200)
		proxy.partition()
		if i%2 == 0 {
			eventually(t, "the relay notices", func() bool { return !w.relay.Connected() })
		} else {
			time.Sleep(time.Duration(i%7) * 100 * time.Millisecond) // shorter than it takes to notice
		}
		proxy.heal()
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
