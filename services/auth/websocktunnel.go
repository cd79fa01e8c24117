package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"taskcluster/internal/api"
)

const (
	tunnelTokenLifetime = 96 * time.Hour
	// tunnelTokenSkew is by how much the tunnel's clock may be behind.
	tunnelTokenSkew = 15 * time.Minute
)

// tunnelClaims are what a token for the websocktunnel service says, in the
// order of the published description.
type tunnelClaims struct {
	TunnelID  string `json:"tid"`
	Audience  string `json:"aud"`
	Subject   string `json:"sub"` // the caller
	IssuedAt  int64  `json:"iat"` // unix seconds, as the two that follow
	Expires   int64  `json:"exp"`
	NotBefore int64  `json:"nbf"`
	Issuer    string `json:"iss"`
}

// tunnelMethods are there only if the deployment has a websocktunnel, whose
// secret it then shares.
func (s *Service) tunnelMethods() []api.Method {
	if s.tunnelSecret == "" {
		return nil
	}
	return []api.Method{{
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
	}}
}

func (s *Service) websocktunnelToken(c *api.Call) (any, error) {
	audience, client := c.Param("wstAudience"), c.Param("wstClient")
	now := c.Now()
	expires := now.Add(tunnelTokenLifetime)
	token, err := signJWT(tunnelClaims{
		TunnelID: client, Audience: audience, Subject: c.ClientID(),
		IssuedAt: now.Std().Unix(), Expires: expires.Std().Unix(), NotBefore: now.Add(-tunnelTokenSkew).Std().Unix(),
		Issuer: "taskcluster-auth",
	}, s.tunnelSecret)
	if err != nil {
		return nil, err
	}
	return WebsocktunnelTokenResponse{WstAudience: audience, WstClient: client, Token: token, Expires: expires}, nil
}

// signJWT makes a JSON Web Token with HMAC-SHA256 (RFC 7519; RFC 7518, 3.2).
func signJWT(claims any, key secret) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(payload)
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil)), nil
}
