package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/hawk"
)

// noAuthValidity is for how long the answer "no credentials" may be relied on.
const noAuthValidity = 15 * time.Minute

// realm is the clients and roles that signatures are checked against: those of
// the deployment, or the made-up ones of the test methods.
type realm struct {
	clock clock.Clock
	log   *slog.Logger
	// client finds a client, nil if there is none.
	client func(ctx context.Context, id string) (*client, error)
	roles  func(ctx context.Context) (*roleSet, error)
	// grants remembers what certificates amount to, once a request was signed
	// with them.
	grants *cache[grantKey, *grant]
	// used is told of each client whose credentials were good.
	used func(*client, clock.Time)
}

// grantKey is the part of a signed request that decides what its sender may do.
type grantKey struct{ id, ext string }

// Authenticate implements api.Authenticator.
func (s *Service) Authenticate(ctx context.Context, r api.AuthRequest) *api.AuthResult {
	return s.realm.authenticate(ctx, &r)
}

// authenticate answers with one of the three published outcomes.
func (m *realm) authenticate(ctx context.Context, req *api.AuthRequest) *api.AuthResult {
	now := m.clock.Now()
	received := req.Received
	if received == 0 {
		received = now
	}
	roles, err := m.roles(ctx)
	if err != nil {
		return m.failed(err)
	}
	if req.Authorization == "" {
		if stripped, text, found := hawk.SplitBewit(req.Resource); found {
			return m.bewit(ctx, req, stripped, text, roles, now, received)
		}
		return &api.AuthResult{Status: api.NoAuth, Scopes: roles.anonymous, Expires: now.Add(noAuthValidity).Truncate()}
	}
	header, err := hawk.ParseHeader(req.Authorization)
	if err != nil {
		return m.failed(err)
	}
	g, fresh, err := m.grant(ctx, roles, header.ID, header.Ext, now)
	if err != nil {
		return m.failed(err)
	}
	signed := hawk.Request{Method: req.Method, Resource: req.Resource, Host: req.Host, Port: req.Port}
	if err := header.Verify(g.key, signed, received.Std()); err != nil {
		return m.failed(err)
	}
	return m.success(g, fresh, header.ID, header.Ext, header.Hash, now)
}

// bewit checks a signature in the URL.
func (m *realm) bewit(ctx context.Context, req *api.AuthRequest, resource, text string, roles *roleSet, now, received clock.Time) *api.AuthResult {
	b, err := hawk.ParseBewit(text)
	if err != nil {
		return m.failed(err)
	}
	g, fresh, err := m.grant(ctx, roles, b.ID, b.Ext, now)
	if err != nil {
		return m.failed(err)
	}
	signed := hawk.Request{Method: req.Method, Resource: resource, Host: req.Host, Port: req.Port}
	if err := b.Verify(g.key, signed, received.Std()); err != nil {
		return m.failed(err)
	}
	return m.success(g, fresh, b.ID, b.Ext, "", now)
}

// grant finds or works out what a Hawk id with an ext amounts to. fresh tells
// that it is not remembered yet.
func (m *realm) grant(ctx context.Context, roles *roleSet, id, ext string, now clock.Time) (g *grant, fresh bool, err error) {
	if ext == "" {
		c, err := m.load(ctx, id, now)
		if err != nil {
			return nil, false, err
		}
		g, err := c.grant(roles)
		return g, false, err
	}
	if m.grants != nil {
		if g, ok := m.grants.get(grantKey{id, ext}); ok && g.roles == roles {
			// The same client still, neither changed nor evicted since?
			if c, err := m.load(ctx, g.issuer.id, now); err != nil {
				return nil, false, err
			} else if c == g.issuer {
				if g.cert != nil {
					if err := g.cert.CheckTimes(now.Std()); err != nil {
						return nil, false, err
					}
				}
				return g, false, nil
			}
		}
	}
	g, err = m.evaluate(ctx, roles, id, ext, now)
	return g, true, err
}

// load finds a client that may act now.
func (m *realm) load(ctx context.Context, id string, now clock.Time) (*client, error) {
	c, err := m.client(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, refusal("Client with clientId '%s' not found", id)
	case c.disabled:
		return nil, refusal("Client with clientId '%s' is disabled", id)
	case c.expires < now:
		return nil, refusal("Client with clientId: '%s' has expired", id)
	}
	return c, nil
}

// success is the result of a request that was signed with g's key. Only then a
// grant is finished and remembered, so that nobody fills the memory, or has
// scopes expanded, with what he made up.
func (m *realm) success(g *grant, fresh bool, id, ext, hash string, now clock.Time) *api.AuthResult {
	if fresh {
		if err := g.finish(); err != nil {
			return m.failed(err)
		}
	}
	if m.used != nil {
		m.used(g.issuer, now)
	}
	if fresh && m.grants != nil && g.small() {
		// The header's text is part of the request's memory, which would stay.
		m.grants.put(grantKey{strings.Clone(id), strings.Clone(ext)}, g, m.grants.now())
	}
	if hash == "" {
		return &g.result
	}
	result := g.result
	result.Hash = hash
	return &result
}

// failed is the result of a request whose credentials are not good. Faults of
// our own are logged; the sender learns only that there was one.
func (m *realm) failed(err error) *api.AuthResult {
	var refusal *hawk.Error
	if !errors.As(err, &refusal) {
		if errors.Is(err, context.Canceled) { // the sender is gone
			return &api.AuthResult{Status: api.AuthFailed, Message: "The request was cancelled", Err: err}
		}
		m.log.Error("credentials could not be checked", "error", err)
		return &api.AuthResult{Status: api.AuthFailed, Message: "The credentials could not be checked because of an internal error", Err: err}
	}
	return &api.AuthResult{Status: api.AuthFailed, Message: refusal.Error()}
}
