package auth

import (
	"context"
	"math"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/scopes"
	"taskcluster/internal/secret"
)

// The test methods know one client, with a token that is no secret.
const (
	testClientID = "tester"
	testerToken  = secret.Text("no-secret")
)

// testRealm knows the client of the test methods with the given scopes, and no
// roles.
func (s *Service) testRealm(clientScopes []string) (*testAuthority, error) {
	none, err := newRoleSet(0, nil)
	if err != nil {
		return nil, err
	}
	tester := &client{id: testClientID, token: testerToken, expires: clock.Time(math.MaxInt64), scopes: clientScopes}
	return &testAuthority{realm{
		clock: s.clock,
		log:   s.logger,
		client: func(_ context.Context, id string) (*client, error) {
			if id != testClientID {
				return nil, nil
			}
			return tester, nil
		},
		roles: func(context.Context) (*roleSet, error) { return none, nil },
	}}, nil
}

type testAuthority struct{ realm realm }

// Authenticate implements api.Authenticator.
func (t *testAuthority) Authenticate(ctx context.Context, r api.AuthRequest) *api.AuthResult {
	return t.realm.authenticate(ctx, &r)
}

// testAuthenticate lets the authors of clients try their signatures.
func (s *Service) testAuthenticate(c *api.Call, in *TestAuthenticateRequest) (any, error) {
	return s.tryCredentials(c, in.ClientScopes, in.RequiredScopes)
}

// testAuthenticateGet is the same with GET, for bewits.
func (s *Service) testAuthenticateGet(c *api.Call) (any, error) {
	return s.tryCredentials(c, []string{"test:*", "auth:create-client:test:*"}, []string{"test:authenticate-get"})
}

func (s *Service) tryCredentials(c *api.Call, held, required []string) (any, error) {
	authority, err := s.testRealm(held)
	if err != nil {
		return nil, err
	}
	result := c.AuthenticateBy(authority)
	needed := make([]scopes.Expr, len(required))
	for i, scope := range required {
		needed[i] = scopes.One(scope)
	}
	if err := c.Require(scopes.AllOf(needed...)); err != nil {
		return nil, err
	}
	return TestAuthenticateResponse{ClientID: c.ClientID(), Scopes: result.Scopes.Slice()}, nil
}
