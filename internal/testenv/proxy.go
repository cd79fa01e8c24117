//go:build unix

package testenv

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy stands between a client and a server of any protocol over TCP, and
// fails when it is told to. It listens on a free port of 127.0.0.1.
type Proxy struct {
	Addr string // host:port

	server   string
	listener net.Listener

	mu     sync.Mutex
	flow   *sync.Cond // closed, partitioned or muted changed
	closed bool
	parted bool
	muted  string
	rate   int   // bytes in a second on each connection; 0: as many as there are
	passed int64 // bytes in either direction
	conns  map[net.Conn]bool
	order  *order
}

// Loss is how a connection is lost.
type Loss int

const (
	// Before loses the connection before the server has seen what the client sends.
	Before Loss = iota
	// After loses the connection after the server has been sent it, and before
	// the client has its answer. The server is given time to finish.
	After
)

type order struct {
	text []byte
	skip int
	loss Loss
	met  chan struct{}
}

// StartProxy starts a proxy in front of a server's host:port, and stops it at
// the end of the test.
func StartProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), server: server, listener: l, conns: map[net.Conn]bool{}}
	p.flow = sync.NewCond(&p.mu)
	var serving sync.WaitGroup
	serving.Go(p.serve)
	t.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		p.flow.Broadcast()
		p.mu.Unlock()
		l.Close()
		p.Cut()
		serving.Wait()
	})
	return p
}

// Cut ends all connections, in the middle of whatever they carry.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0) // what is still on its way is lost
		}
		c.Close()
	}
}

// Partition holds back what is sent in either direction, as a network does that
// lost its way; nobody is told. False lets it go on.
func (p *Proxy) Partition(parted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parted = parted
	p.flow.Broadcast()
}

// Mute holds back what the server sends over connections on which the client
// has sent text, by then or later; "" lets it go on.
func (p *Proxy) Mute(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muted = text
	p.flow.Broadcast()
}

// Throttle passes on about so many bytes in a second, on each connection and in
// each direction; 0 is as many as there are.
func (p *Proxy) Throttle(rate int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = rate
}

// Passed is how many bytes were passed on so far.
func (p *Proxy) Passed() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passed
}

// Connections is how many connections of clients are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return (len(p.conns) + 1) / 2
}

// CutAt loses one connection, when a client sends text; with skip, that many
// packets later. The channel is closed when it has happened. A later call takes
// the place of one that was not met.
func (p *Proxy) CutAt(text string, skip int, loss Loss) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.order = &order{text: []byte(text), skip: skip, loss: loss, met: make(chan struct{})}
	return p.order.met
}

func (p *Proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.flowing(nil) {
			client.Close()
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = true, true
		p.mu.Unlock()
		said := &transcript{}
		go p.up(client, server, said)
		go p.down(client, server, said)
	}
}

// transcript is the beginning of what a client sent.
type transcript struct {
	mu   sync.Mutex
	text []byte
}

func (s *transcript) add(text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = append(s.text, text[:min(len(text), 1<<16-len(s.text))]...)
}

func (s *transcript) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Contains(s.text, []byte(text))
}

// flowing waits while there is a partition, or the server is muted for a client
// who said this; it is false at the end.
func (p *Proxy) flowing(said *transcript) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && (p.parted || said != nil && p.muted != "" && said.has(p.muted)) {
		p.flow.Wait()
	}
	return !p.closed
}

// pass is when n bytes may be passed on: when they may flow, and not too soon. It
// is false at the end.
func (p *Proxy) pass(n int, said *transcript) bool {
	p.mu.Lock()
	rate := p.rate
	p.mu.Unlock()
	if rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
	}
	if !p.flowing(said) {
		return false
	}
	p.mu.Lock()
	p.passed += int64(n)
	p.mu.Unlock()
	return true
}

func (p *Proxy) end(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
}

func (p *Proxy) down(client, server net.Conn, said *transcript) {
	defer p.end(client)
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil || !p.pass(n, said) {
			return
		}
		if _, err := client.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *Proxy) up(client, server net.Conn, said *transcript) {
	defer p.end(server)
	buf := make([]byte, 1<<16)
	var mine *order // its text was sent on this connection
	skip := 0
	for {
		n, err := client.Read(buf)
		if err != nil || !p.pass(n, nil) {
			return
		}
		said.add(buf[:n])
		if mine == nil {
			if mine = p.meets(buf[:n]); mine != nil {
				skip = mine.skip
			}
		} else {
			skip--
		}
		if mine != nil && skip <= 0 {
			if mine.loss == After {
				server.Write(buf[:n])
			}
			p.end(client)
			close(mine.met)
			if mine.loss == After {
				io.Copy(io.Discard, server)
			}
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

// meets takes the order if it is about what is sent.
func (p *Proxy) meets(sent []byte) *order {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.order
	if o == nil || !bytes.Contains(sent, o.text) {
		return nil
	}
	p.order = nil
	return o
}
