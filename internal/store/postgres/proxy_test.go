package postgres_test

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// What a proxy does with the next commit that a client sends.
const (
	pass    = iota
	swallow // the server never sees it, and the client loses the connection
	mute    // the server sees it, and the client loses the connection instead of the answer
	vanish  // like mute, and the server is out of reach from then on
)

// proxy stands between a store and the server, and fails when it is told to.
type proxy struct {
	listener net.Listener
	server   string

	mu   sync.Mutex
	next int // what happens to the next commit
	gone bool
	held chan struct{} // while the server hangs; closed when it goes on
}

// hang has the server take what it is sent and answer nothing, until goOn.
func (p *proxy) hang() (goOn func()) {
	held := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.held = nil
		close(held)
	}
}

// wait returns when the server does not hang.
func (p *proxy) wait() {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held != nil {
		<-held
	}
}

// newProxy starts a proxy and returns the connection string that leads through it.
func newProxy(t *testing.T, server string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{listener: l, server: u.Host}
	go p.serve()
	u.Host = l.Addr().String()
	return p, u.String()
}

func (p *proxy) set(next int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next, p.gone = next, false
}

// meet takes what shall happen to the commit that was just met.
func (p *proxy) meet() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.next
	p.next, p.gone = pass, next == vanish
	return next
}

func (p *proxy) away() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.away() {
			client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		go func() {
			p.wait()
			p.up(client, server)
		}()
		go func() {
			io.Copy(client, server)
			client.Close()
		}()
	}
}

// up passes on what the client sends. Messages of the store are small and come
// one at a time, so a commit is one read.
func (p *proxy) up(client, server net.Conn) {
	defer server.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT\x00")) {
			switch p.meet() {
			case swallow:
				client.Close()
				return
			case mute, vanish:
				client.Close()
				server.Write(buf[:n])
				io.Copy(io.Discard, server) // let it finish
				return
			}
		}
		p.wait()
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}
