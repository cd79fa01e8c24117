//go:build unix

package testenv

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// upper is a server that answers each line in upper case, and tells what it got.
func upper(t *testing.T) (addr string, lines chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	lines = make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for s := bufio.NewScanner(c); s.Scan(); {
					lines <- s.Text()
					if _, err := io.WriteString(c, strings.ToUpper(s.Text())+"\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), lines
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(c net.Conn, line string) string {
	io.WriteString(c, line+"\n")
	answer, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(answer)
}

func TestProxy(t *testing.T) {
	server, lines := upper(t)
	p := StartProxy(t, server)
	c := dial(t, p)
	if got := ask(c, "a"); got != "A" || <-lines != "a" {
		t.Fatalf("%q came through", got)
	}

	met := p.CutAt("COMMIT", 0, Before)
	if got := ask(c, "COMMIT"); got != "" {
		t.Errorf("the answer %q to what was to be lost", got)
	}
	<-met
	c = dial(t, p)
	met = p.CutAt("COMMIT", 1, After)
	if ask(c, "COMMIT") != "COMMIT" || ask(c, "b") != "" {
		t.Error("the packet after the text was to be cut off")
	}
	<-met
	if first, second := <-lines, <-lines; first != "COMMIT" || second != "b" {
		t.Errorf("the server got %q and %q", first, second)
	}

	c = dial(t, p)
	if ask(c, "c") != "C" {
		t.Error("no connection after a cut")
	}
	p.Partition(true)
	answer := make(chan string)
	go func() { answer <- ask(c, "d") }()
	select {
	case got := <-answer:
		t.Errorf("%q came through a partition", got)
	case <-time.After(50 * time.Millisecond):
	}
	p.Partition(false)
	if got := <-answer; got != "D" {
		t.Errorf("%q after the partition", got)
	}
	other := dial(t, p)
	p.Mute("d\n")
	if got := ask(other, "e"); got != "E" {
		t.Errorf("%q over a connection that is not muted", got)
	}
	go func() { answer <- ask(c, "f") }()
	select {
	case got := <-answer:
		t.Errorf("%q came although the server is muted", got)
	case <-time.After(50 * time.Millisecond):
	}
	p.Mute("")
	if got := <-answer; got != "F" {
		t.Errorf("%q when it is muted no more", got)
	}
	p.Cut()
	if got := ask(c, "e"); got != "" {
		t.Errorf("the answer %q over a connection that was cut", got)
	}
}
