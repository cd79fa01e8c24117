package api

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
)

// Listen wraps a listener so that requests which the HTTP server refuses before
// any handler sees them (a malformed request line, bad escapes, headers that are
// too large, a transfer coding that nobody knows) are answered in the published
// error format as well.
func Listen(l net.Listener) net.Listener { return refusalListener{l} }

type refusalListener struct{ net.Listener }

func (l refusalListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &refusalConn{Conn: c}, nil
}

type refusalConn struct{ net.Conn }

// refusalHead ends the header block that net/http writes for requests it cannot
// parse. Answers of handlers never look like this: they carry a Date.
var refusalHead = []byte("\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n")

func (c *refusalConn) Write(b []byte) (int, error) {
	const line = "HTTP/1.1 "
	if !bytes.HasPrefix(b, []byte(line+"4")) && !bytes.HasPrefix(b, []byte(line+"5")) {
		return c.Conn.Write(b)
	}
	at := bytes.Index(b, refusalHead)
	if at < 0 || bytes.IndexByte(b[:at], '\n') >= 0 {
		return c.Conn.Write(b)
	}
	status, _, _ := strings.Cut(string(b[len(line):at]), ":") // a reason may follow, which is in the text
	text := string(b[at+len(refusalHead):])
	body, err := marshal(errorBody{
		Code:        "MalformedPayload",
		Message:     "The request is not valid HTTP: " + text,
		RequestInfo: requestInfo{Params: map[string]string{}, Payload: struct{}{}},
	})
	if err != nil {
		return c.Conn.Write(b)
	}
	_, err = fmt.Fprintf(c.Conn, "HTTP/1.1 %s\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, len(body), body)
	return len(b), err
}

// ReadFrom keeps the kernel's fast path for sending files.
func (c *refusalConn) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := c.Conn.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
}
