package auth

import (
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"taskcluster/internal/api"
	"taskcluster/internal/tcerr"
)

const (
	tunnelTokenLifetime = 96 * time.Hour
	// tunnelTokenSkew is by how much the tunnel's clock may be behind.
	tunnelTokenSkew = 15 * time.Minute
)

func (s *Service) tunnelMethod() api.Method {
	return api.Method{
		Name: "websocktunnelToken", Method: http.MethodGet, Route: "/websocktunnel/:wstAudience/:wstClient",
		Category: "Websocktunnel Credentials", Stability: api.Stable,
		Title:       "Get a client token for the Websocktunnel service",
		Description: "Answers with a token by which a worker connects to the websocktunnel service under the name `wstClient`.",
		Params: map[string]*api.Pattern{
			"wstAudience": api.Regexp(`^[a-zA-Z0-9_-]{1,38}$`),
			"wstClient":   api.Regexp(`^[a-zA-Z0-9_~.%-]+$`),
		},
		Output: "v1/websocktunnel-token-response.json#",
		Scopes: require(`"auth:websocktunnel-token:<wstAudience>/<wstClient>"`),
		Handle: s.websocktunnelToken,
	}
}

func (s *Service) websocktunnelToken(c *api.Call) (any, error) {
	if s.tunnelSecret == "" {
		return nil, tcerr.New(tcerr.ResourceNotFound, "Websocktunnel credentials not found: the setting websocktunnel-secret is not set")
	}
	audience, client := c.Param("wstAudience"), c.Param("wstClient")
	now := c.Now()
	expires := now.Add(tunnelTokenLifetime)
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"tid": client, "aud": audience, "sub": c.ClientID(), // the tunnel, and the caller
		"iat": now.Std().Unix(), "exp": expires.Std().Unix(), "nbf": now.Add(-tunnelTokenSkew).Std().Unix(),
		"iss": "taskcluster-auth",
	}).SignedString([]byte(s.tunnelSecret))
	if err != nil {
		return nil, err
	}
	return WebsocktunnelTokenResponse{WstAudience: audience, WstClient: client, Token: token, Expires: expires}, nil
}
