package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/hawk"
)

// grant is what a Hawk id and ext amount to, under one version of the roles
// and of the issuing client. It does not change once it is made.
type grant struct {
	issuer *client
	roles  *roleSet
	cert   *hawk.Certificate // nil without one
	key    string            // of the request's MAC
	result api.AuthResult    // of a request without a payload hash

	// refused is why nobody may use the grant, if the client's scopes expand to
	// too much.
	refused error
	// authorized are authorizedScopes that are still to be checked and expanded,
	// once the request's signature has proved good: anybody can send them.
	authorized []string
}

// maxGrant is how many bytes of scopes a grant that is remembered may have.
// Larger ones are put together again for each request, from what the roles'
// resolver remembers, which has a bound in bytes.
const maxGrant = 256 << 10

func (g *grant) small() bool { return g.result.Scopes.Bytes() <= maxGrant }

// newGrant is what a client may do that signs with its own token.
func newGrant(c *client, roles *roleSet) *grant {
	expanded, err := roles.expand(c.scopes)
	if err != nil {
		return &grant{issuer: c, roles: roles, refused: refusal("Client with clientId '%s' cannot be used: %s", c.id, err)}
	}
	return &grant{
		issuer: c,
		roles:  roles,
		key:    string(c.token),
		result: api.AuthResult{
			Status:   api.AuthSuccess,
			ClientID: c.id,
			Issuer:   c.id,
			Scopes:   expanded,
			Expires:  c.expires,
		},
	}
}

// evaluate works out the grant of a Hawk id with an ext. The order of the
// checks is published: the issuer first, then the certificate, then the
// restriction to authorizedScopes.
func (m *realm) evaluate(ctx context.Context, roles *roleSet, id, ext string, now clock.Time) (*grant, error) {
	e, err := hawk.ParseExt(ext)
	if err != nil {
		return nil, err
	}
	issuer := id
	var cert hawk.Certificate
	var malformed error // what is wrong with the certificate, apart from its issuer
	if e.HasCertificate {
		if cert, malformed = hawk.ParseCertificate(e.Certificate); malformed != nil {
			var ok bool
			if cert.Issuer, ok = issuerOf(e.Certificate); !ok {
				return nil, malformed
			}
		}
		if cert.Issuer != "" {
			if err := cert.CheckIssuer(id); err != nil {
				return nil, err
			}
			issuer = cert.Issuer
		}
	}
	c, err := m.load(ctx, issuer, now)
	if err != nil {
		return nil, err
	}
	if malformed != nil {
		return nil, malformed
	}
	plain, err := c.grant(roles)
	if err != nil {
		return nil, err
	}
	g := *plain
	if e.HasCertificate {
		if err := g.apply(&cert, id, now); err != nil {
			return nil, err
		}
	}
	if e.HasAuthorizedScopes {
		if err := g.restrict(e.AuthorizedScopes); err != nil {
			return nil, err
		}
	}
	return &g, nil
}

// apply replaces the issuer's powers by those that its certificate hands on to id.
func (g *grant) apply(c *hawk.Certificate, id string, now clock.Time) error {
	if err := c.CheckTimes(now.Std()); err != nil {
		return err
	}
	held := g.result.Scopes
	if c.Issuer != "" {
		if need := "auth:create-client:" + id; !held.Has(need) {
			return refusal("ext.certificate issuer `%s` doesn't have `%s` for supplied clientId.", c.Issuer, need)
		}
		if !validClientID(id) {
			return refusal("ext.certificate cannot name `%s`, which is not a valid clientId", id)
		}
	} else if err := c.CheckIssuer(id); err != nil {
		return err
	}
	if !held.HasAll(c.Scopes) {
		return refusal("ext.certificate issuer `%s` doesn't satisfy all certificate scopes %s.  The temporary credentials were not generated correctly.",
			g.issuer.id, strings.Join(c.Scopes, ", "))
	}
	token := string(g.issuer.token)
	if err := c.CheckSignature(id, token); err != nil {
		return err
	}
	g.cert = c
	g.key = c.Key(token)
	g.result.ClientID = strings.Clone(id) // id is part of a whole header
	expanded, err := g.roles.expand(c.Scopes)
	if err != nil {
		return refusal("ext.certificate cannot be used: %s", err)
	}
	g.result.Scopes = expanded
	if c.Expiry < g.result.Expires.Millis() {
		g.result.Expires = clock.OfMillis(c.Expiry)
	}
	return nil
}

// restrict reads authorizedScopes, to which finish narrows the grant.
func (g *grant) restrict(raw json.RawMessage) error {
	authorized, err := hawk.ParseAuthorizedScopes(raw)
	g.authorized = nonNil(authorized)
	return err
}

// finish narrows the grant to authorizedScopes, if there are any. An empty list
// leaves what everybody has. The refusal tells what the client may do, which
// only he is to know.
func (g *grant) finish() error {
	if g.authorized == nil {
		return nil
	}
	if !g.result.Scopes.HasAll(g.authorized) {
		return refusal("Supplied credentials do not satisfy authorizedScopes; credentials have scopes:\n\n```\n%s\n```\n\nauthorizedScopes are:\n\n```\n%s\n```",
			strings.Join(g.result.Scopes.Slice(), "\n"), strings.Join(g.authorized, "\n"))
	}
	expanded, err := g.roles.expand(g.authorized)
	if err != nil {
		return refusal("ext.authorizedScopes cannot be used: %s", err)
	}
	g.result.Scopes, g.authorized = expanded, nil
	return nil
}

// issuerOf is the issuer of a certificate whose form is wrong, "" if it has
// none; ok is false if it has one that is not text.
func issuerOf(raw json.RawMessage) (issuer string, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return "", true
	}
	value, present := members["issuer"]
	if !present || bytes.Equal(value, []byte("null")) {
		return "", true
	}
	return issuer, json.Unmarshal(value, &issuer) == nil
}

// refusal is an answer to whoever sent credentials, as opposed to a fault of ours.
func refusal(format string, args ...any) error {
	return &hawk.Error{Message: fmt.Sprintf(format, args...)}
}
