package brokertest

import (
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The project and the deployment's own service account of the double GCP.
const (
	GCPProject = "double-project"
	gcpOwn     = "deployment@double-project.iam.gserviceaccount.com"
	gcpScope   = "https://www.googleapis.com/auth/cloud-platform"
)

// GCP is Google's token endpoint and the method generateAccessToken of its IAM.
type GCP struct {
	double
	key      *rsa.PublicKey
	pem      string
	accounts []string

	own    map[string]bool      // access tokens of the deployment, under mu
	grants map[string]*GCPGrant // by token, under mu
}

// GCPGrant is what a token is good for.
type GCPGrant struct {
	Account string
	Expires time.Time
}

// NewGCP starts a double with these service accounts, for which the deployment
// may act. The times of assertions are compared with the machine's clock, by
// which Google's own library makes them.
func NewGCP(accounts ...string) *GCP {
	key, text := rsaKey()
	g := &GCP{key: &key.PublicKey, pem: text, accounts: accounts, own: map[string]bool{}, grants: map[string]*GCPGrant{}}
	g.start(nil, g.serve)
	return g
}

// Setting is the value of gcp-credentials-allowed-projects, with the accounts
// that callers may have.
func (g *GCP) Setting(allowed ...string) string {
	return setting(map[string]any{GCPProject: map[string]any{
		"credentials": map[string]any{
			"type": "service_account", "project_id": GCPProject, "private_key_id": "k1", "private_key": g.pem,
			"client_email": gcpOwn, "token_uri": g.URL() + "/token",
		},
		"allowedServiceAccounts": allowed,
		"endpoint":               g.URL(),
	}})
}

// PrivateKey is the key of the deployment's own account, in PEM.
func (g *GCP) PrivateKey() string { return g.pem }

// Grant is what a token is good for, nil if it is none.
func (g *GCP) Grant(token string) *GCPGrant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.grants[token]
}

func (g *GCP) serve(w http.ResponseWriter, r *http.Request) {
	text := body(r)
	account, isAccount := strings.CutPrefix(r.URL.Path, "/v1/projects/-/serviceAccounts/")
	account, generates := strings.CutSuffix(account, ":generateAccessToken")
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/token":
		g.token(w, text)
	case r.Method == http.MethodPost && isAccount && generates:
		g.generate(w, r, account, text)
	default:
		g.refuse(w, http.StatusNotFound, "NOT_FOUND", "no such method")
	}
}

// token takes a signed assertion of who somebody is for an access token.
func (g *GCP) token(w http.ResponseWriter, text []byte) {
	refuse := func(err error) {
		g.note("invalid_grant: %v", err)
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": err.Error()})
	}
	form, err := url.ParseQuery(string(text))
	if err != nil || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		refuse(fmt.Errorf("grant_type %q", form.Get("grant_type")))
		return
	}
	claims := jwt.MapClaims{}
	_, err = jwt.ParseWithClaims(form.Get("assertion"), claims, func(*jwt.Token) (any, error) { return g.key, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithTimeFunc(g.now), jwt.WithExpirationRequired(), jwt.WithIssuer(gcpOwn), jwt.WithAudience(g.URL()+"/token"))
	if err != nil {
		refuse(err)
		return
	}
	issued, _ := claims.GetIssuedAt()
	expires, _ := claims.GetExpirationTime()
	if issued == nil || expires.Sub(issued.Time) > time.Hour || claims["scope"] != gcpScope {
		refuse(fmt.Errorf("not for an hour at most, or for the scope %v", claims["scope"]))
		return
	}
	token := random("ya29.own-")
	g.mu.Lock()
	g.own[token] = true
	g.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{"access_token": token, "expires_in": 3600, "token_type": "Bearer"})
}

func (g *GCP) generate(w http.ResponseWriter, r *http.Request, account string, text []byte) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.mu.Lock()
	known := g.own[token]
	g.mu.Unlock()
	var in struct {
		Scope    []string
		Lifetime string
	}
	var lifetime time.Duration
	err := json.Unmarshal(text, &in)
	if err == nil {
		lifetime, err = time.ParseDuration(in.Lifetime)
	}
	switch {
	case !known:
		g.refuse(w, http.StatusUnauthorized, "UNAUTHENTICATED", "not a token of the deployment's account")
	case err != nil || len(in.Scope) == 0 || lifetime <= 0 || lifetime > time.Hour:
		g.refuse(w, http.StatusBadRequest, "INVALID_ARGUMENT", "scope or lifetime")
	case !slices.Contains(g.accounts, account):
		g.refuse(w, http.StatusNotFound, "NOT_FOUND", "Unknown service account")
	default:
		grant := &GCPGrant{Account: account, Expires: g.now().Add(lifetime).UTC().Truncate(time.Second)}
		given := random("ya29.")
		g.mu.Lock()
		g.grants[given] = grant
		g.mu.Unlock()
		writeJSON(w, http.StatusOK, map[string]any{"accessToken": given, "expireTime": grant.Expires.Format(time.RFC3339)})
	}
}

func (g *GCP) refuse(w http.ResponseWriter, status int, code, message string) {
	g.note("%s: %s", code, message)
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": status, "status": code, "message": message}})
}
