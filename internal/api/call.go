package api

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"

	"taskcluster/internal/clock"
)

// MaxPage is the largest and the default number of items in one page.
const MaxPage = 1000

// Call is one request on its way through a method.
type Call struct {
	Context context.Context
	Request *http.Request

	server *Server
	method *method
	params []string // values, in the order of the route's names
	query  []string // values, in the order of the method's Query; "" = absent
	raw    []byte   // the body as received (inflated)
	body   []byte   // the body with defaults filled in

	auth       *AuthResult
	authorized bool
	stream     Stream // follows the answer
	outage     bool   // it was refused for a reason that is logged once for all
}

// Param is the decoded value of a URL parameter.
func (c *Call) Param(name string) string {
	for i, n := range c.method.route.names {
		if n == name {
			return c.params[i]
		}
	}
	return ""
}

// Query is the value of a declared query parameter, and whether it was given.
func (c *Call) Query(name string) (string, bool) {
	for i := range c.method.Query {
		if c.method.Query[i].Name == name {
			return c.query[i], c.query[i] != ""
		}
	}
	return "", false
}

// Page is the declared paging of the request: how many items at most, and the
// token that the page before gave.
func (c *Call) Page() (limit int, token string) {
	limit = MaxPage
	if s, ok := c.Query("limit"); ok {
		if n, err := strconv.Atoi(s); err == nil && n < MaxPage {
			limit = n
		}
	}
	token, _ = c.Query("continuationToken")
	return limit, token
}

// Body is the request's JSON, valid against the input schema, with the
// schema's defaults filled in. A method without input sees "{}" or what the
// caller sent.
func (c *Call) Body() []byte { return c.body }

// Now is the present instant by the server's clock.
func (c *Call) Now() clock.Time { return c.server.clock.Now() }

// SourceIP is the address that the request came from. Behind a trusted proxy
// it is the one that the proxy names.
func (c *Call) SourceIP() string {
	if c.server.trustProxy {
		if fwd := c.Request.Header.Get("X-Forwarded-For"); fwd != "" {
			last := fwd[strings.LastIndexByte(fwd, ',')+1:]
			if ip := net.ParseIP(strings.TrimSpace(last)); ip != nil {
				return ip.String()
			}
		}
	}
	host, _, err := net.SplitHostPort(c.Request.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// paramsMap is the URL parameters as errors and audit rows show them.
func (c *Call) paramsMap() map[string]string {
	m := make(map[string]string, len(c.params))
	for i, v := range c.params {
		m[c.method.route.names[i]] = v
	}
	return m
}

// payload is the body as an error message repeats it.
func (c *Call) payload() any {
	if c.method.Clean != nil {
		var v any
		if json.Unmarshal(c.body, &v) != nil {
			return struct{}{}
		}
		return c.method.Clean(v)
	}
	if len(c.body) == 0 || !json.Valid(c.body) {
		return struct{}{}
	}
	return json.RawMessage(c.body)
}
