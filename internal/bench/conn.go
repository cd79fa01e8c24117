package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"time"

	"taskcluster/internal/hawk"
)

// conn is one connection to the server. The generator shares the machine with
// what it measures, so it speaks HTTP by hand: a request is one write, and of
// an answer only what is needed is read.
type conn struct {
	host        string // as in the Host header
	signed      hawk.Request
	credentials hawk.Credentials

	c   net.Conn
	r   *bufio.Reader
	out []byte
}

func dial(root *url.URL, address string, credentials hawk.Credentials) (*conn, error) {
	host, port, err := hawk.HostPort(root.Host, root.Scheme == "https")
	if err != nil {
		return nil, err
	}
	if root.Scheme != "http" {
		return nil, fmt.Errorf("the load generator speaks plain http, not %s", root.Scheme)
	}
	if address == "" {
		address = net.JoinHostPort(host, strconv.Itoa(port))
	}
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{
		host: root.Host, signed: hawk.Request{Host: host, Port: port}, credentials: credentials,
		c: c, r: bufio.NewReaderSize(c, 64<<10),
	}, nil
}

// do sends a signed request and returns the answer's body, which is valid until
// the next call.
func (c *conn) do(credentials hawk.Credentials, method, resource string, body []byte) (int, []byte, error) {
	r := c.signed
	r.Method, r.Resource = method, resource
	hash := ""
	if body != nil {
		hash = hawk.PayloadHash("application/json", body)
	}
	authorization, err := credentials.Header(r, hash, time.Now())
	if err != nil {
		return 0, nil, err
	}
	b := c.out[:0]
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, resource...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.host...)
	b = append(b, "\r\nAuthorization: "...)
	b = append(b, authorization...)
	if body != nil {
		b = append(b, "\r\nContent-Type: application/json\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
	} else if method != http.MethodGet {
		b = append(b, "\r\nContent-Length: 0"...)
	}
	b = append(b, "\r\n\r\n"...)
	b = append(b, body...)
	c.out = b
	c.c.SetDeadline(time.Now().Add(40 * time.Second))
	if _, err := c.c.Write(b); err != nil {
		return 0, nil, err
	}
	return c.answer()
}

func (c *conn) answer() (int, []byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("not HTTP: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, fmt.Errorf("not HTTP: %q", line)
	}
	length := int64(0)
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = line[:len(line)-2]
		if len(line) == 0 {
			break
		}
		const name = "content-length: "
		if len(line) > len(name) && textproto.CanonicalMIMEHeaderKey(string(line[:len(name)-2])) == "Content-Length" {
			if length, err = strconv.ParseInt(string(line[len(name):]), 10, 64); err != nil {
				return 0, nil, err
			}
		}
	}
	body := make([]byte, length)
	_, err = io.ReadFull(c.r, body)
	return status, body, err
}
