package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"

	"taskcluster/internal/clock"
	"taskcluster/internal/hawk"
	"taskcluster/internal/scopes"
	"taskcluster/internal/tcerr"
)

// Authenticator decides who sent a request. The auth service implements it; a
// process that runs without auth asks a remote one.
type Authenticator interface {
	Authenticate(ctx context.Context, r AuthRequest) *AuthResult
}

// AuthRequest is what a signature covers.
type AuthRequest struct {
	Method        string // upper case
	Resource      string // raw request target, query included, as received
	Host          string // without port
	Port          int
	Authorization string // header value, empty when there was none
	SourceIP      string
	// Received is when it came, by which the age of the signature is judged; now
	// when zero. Everything else is judged by the present.
	Received clock.Time
}

// The three outcomes of authentication.
const (
	AuthSuccess = "auth-success"
	NoAuth      = "no-auth"
	AuthFailed  = "auth-failed"
)

// AuthResult says who sent a request and what he may do. It is shared between
// requests and must not be modified.
type AuthResult struct {
	Status   string // AuthSuccess, NoAuth or AuthFailed
	Message  string // why it failed
	ClientID string
	// Issuer is the client that answers for the caller: who issued his temporary
	// credentials, and otherwise he himself. Names of temporary credentials cost
	// nothing, so that what is counted by caller is counted by this one.
	Issuer  string
	Scopes  scopes.Set // expanded, the anonymous role's included
	Expires clock.Time
	Hash    string // payload hash that the signature covers, if any

	// Err is set, with AuthFailed, when it could not be found out: the fault is
	// ours, and the request may be tried again.
	Err error
}

// hostPort gives the host and port that the sender signed, as a proxy in front
// of us may have told.
func hostPort(r *http.Request) (string, int) {
	host, port := r.Host, 0
	if h, p, err := net.SplitHostPort(r.Host); err == nil {
		host = h
		port, _ = strconv.Atoi(p)
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if fwd, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Port"), ","); fwd != "" {
		if p, err := strconv.Atoi(strings.TrimSpace(fwd)); err == nil && p > 0 && p < 65536 {
			return host, p
		}
	}
	switch {
	case secure(r) && r.TLS == nil:
		port = 443
	case port != 0:
	case r.TLS != nil:
		port = 443
	default:
		port = 80
	}
	return host, port
}

// Auth authenticates the request, once.
func (c *Call) Auth() *AuthResult {
	if c.auth == nil {
		c.auth = c.authenticate(c.server.auth)
		c.countAuthentication()
	}
	return c.auth
}

// AuthenticateBy authenticates the request by another authority than the
// server's, for methods that test credentials. What Auth and Require answer
// afterwards follows from it.
func (c *Call) AuthenticateBy(a Authenticator) *AuthResult {
	c.auth = c.authenticate(a)
	return c.auth
}

// countAuthentication tells the metrics how the check of credentials ended, if
// there were any. Who sent none has not failed.
func (c *Call) countAuthentication() {
	m, a := c.server.metrics, c.auth
	if m == nil || a.Status == NoAuth {
		return
	}
	scheme := "hawk"
	if c.Request.Header.Get("Authorization") == "" {
		scheme = "bewit"
	}
	switch {
	case a.Status == AuthSuccess:
		m.Authenticated(scheme, a.ClientID, "")
	case a.Err != nil:
		m.Authenticated(scheme, "", "internal-error")
	default:
		m.Authenticated(scheme, "", "refused")
	}
}

func (c *Call) authenticate(by Authenticator) *AuthResult {
	r := c.Request
	authorization := r.Header.Get("Authorization")
	if authorization != "" && strings.Contains(r.URL.RawQuery, "bewit=") {
		if _, _, found := hawk.SplitBewit(r.RequestURI); found {
			return &AuthResult{Status: AuthFailed, Message: "Cannot use two authentication schemes at once this request has both bewit in querystring and 'authorization' header"}
		}
	}
	res := by.Authenticate(c.Context, c.authRequest())
	if res.Status == AuthSuccess && res.Hash != "" {
		if want := hawk.PayloadHash(r.Header.Get("Content-Type"), c.raw); want != res.Hash {
			return &AuthResult{Status: AuthFailed, Message: "Invalid payload hash: the request's body or content type is not what was signed"}
		}
	}
	return res
}

// authRequest is what a signature of the request covers.
func (c *Call) authRequest() AuthRequest {
	r := c.Request
	host, port := hostPort(r)
	return AuthRequest{
		Method:        r.Method,
		Resource:      r.RequestURI,
		Host:          host,
		Port:          port,
		Authorization: r.Header.Get("Authorization"),
		SourceIP:      c.SourceIP(),
	}
}

// ClientID is the caller's name for logs and records: who he proved to be, or
// that he did not.
func (c *Call) ClientID() string {
	if c.method.Scopes.IsPublic() && c.auth == nil {
		return "auth-failed:no-auth"
	}
	switch a := c.Auth(); a.Status {
	case AuthSuccess:
		return a.ClientID
	case NoAuth:
		return "auth-failed:no-auth"
	}
	return "auth-failed:auth-failed"
}

// Authorize renders the method's scope expression with params (strings,
// numbers, []string and bool) and refuses callers who do not satisfy it.
func (c *Call) Authorize(params map[string]any) error {
	expr, public, err := c.method.Scopes.Render(params)
	if err != nil {
		return err
	}
	return c.require(expr, public)
}

// AuthorizeStrings is Authorize for expressions that need only strings; it is
// cheaper.
func (c *Call) AuthorizeStrings(get func(name string) (string, bool)) error {
	expr, public, err := c.method.Scopes.RenderStrings(get)
	if err != nil {
		return err
	}
	return c.require(expr, public)
}

// Authenticate refuses callers whose credentials are not good, whatever they
// may do. It is for methods that authorize each part of a body by itself: a part
// may be refused with [tcerr.InsufficientScopes], bad credentials refuse the call.
func (c *Call) Authenticate() error {
	c.authorized = true
	switch a := c.Auth(); {
	case a.Err != nil:
		return a.Err
	case a.Status == AuthFailed:
		return tcerr.New(tcerr.AuthenticationFailed, "%s", a.Message)
	}
	return nil
}

// Require refuses callers who do not satisfy expr, whatever the method's own
// scope expression says.
func (c *Call) Require(expr scopes.Expr) error { return c.require(expr, false) }

func (c *Call) require(expr scopes.Expr, public bool) error {
	if public {
		c.authorized = true
		return nil
	}
	if err := c.Authenticate(); err != nil {
		return err
	}
	a := c.Auth()
	if expr.SatisfiedBy(a.Scopes) {
		return nil
	}
	if a.Status == NoAuth {
		return tcerr.New(tcerr.InsufficientScopes, "This request requires Taskcluster credentials that satisfy the following scope expression:\n\n```\n%s\n```%s", expr, c.hint(expr, a.Scopes))
	}
	missing, _ := expr.Unsatisfied(a.Scopes)
	return tcerr.New(tcerr.InsufficientScopes, "Client ID %s does not have sufficient scopes and is missing the following scopes:\n\n```\n%s\n```\n\nThis request requires the client to satisfy the following scope expression:\n\n```\n%s\n```%s", a.ClientID, missing, expr, c.hint(expr, a.Scopes))
}

// urlScopes tells whether the URL alone decides who may call m, so that the
// framework authorizes before anything else is looked at.
func urlScopes(m *Method, names []string) bool {
	if m.Scopes.IsPublic() {
		return false
	}
	for _, p := range m.Scopes.Params() {
		if p.Kind != scopes.String {
			return false
		}
		found := false
		for _, n := range names {
			found = found || n == p.Name
		}
		if !found {
			return false
		}
	}
	return true
}

var errNeverAuthorized = errors.New("Deferred auth was never checked!")
