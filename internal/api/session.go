package api

import "context"

// Session is who sent a request whose answer goes on for long. It keeps little
// of the request, and asks anew what the sender may do: clients may be disabled,
// roles change and certificates end meanwhile.
type Session struct {
	server  *Server
	method  *method
	request AuthRequest
}

// Session is that of the call.
func (c *Call) Session() *Session {
	r := c.authRequest()
	r.Received = c.server.clock.Now()
	return &Session{c.server, c.method, r}
}

// Authorize is Call.Authorize by what the sender's credentials amount to now.
// Only the age of his signature is that at which the request came.
func (s *Session) Authorize(ctx context.Context, params map[string]any) error {
	c := &Call{Context: ctx, server: s.server, method: s.method, auth: s.server.auth.Authenticate(ctx, s.request)}
	return c.Authorize(params)
}
