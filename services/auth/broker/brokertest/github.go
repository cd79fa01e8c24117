package brokertest

import (
	"bytes"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// GitHubApp is the name that Setting gives to the double's app.
const GitHubApp = "double"

// GitHub is GitHub's REST API as one app sees it that proves itself by signed
// tokens: where it is installed, and tokens of its installations.
type GitHub struct {
	double
	appID       string
	key         *rsa.PublicKey
	pem         string
	permissions map[string]string // of the app

	// What follows is kept under mu.
	owners    map[string]*githubOwner // by name in lower case
	renamed   map[string]string       // old name, in lower case, to new
	grants    map[string]*GitHubGrant // by token
	last      int64
	remaining int // requests until the rate limit; -1 for no limit
}

type githubOwner struct {
	login        string
	kind         string // "orgs" or "users"
	installation int64
	suspended    bool
	repositories []string
}

// GitHubGrant is what a token is good for.
type GitHubGrant struct {
	Owner        string
	Repositories []string
	Permissions  map[string]string
	Expires      time.Time
}

// NewGitHub starts a double whose app has the permissions, each with its
// highest level. It tells the time by now, time.Now when nil.
func NewGitHub(now func() time.Time, permissions map[string]string) *GitHub {
	key, text := rsaKey()
	g := &GitHub{
		appID: "4711", key: &key.PublicKey, pem: text, permissions: permissions,
		owners: map[string]*githubOwner{}, renamed: map[string]string{}, grants: map[string]*GitHubGrant{}, remaining: -1,
	}
	g.start(now, g.serve)
	return g
}

// Setting is the value of github-apps.
func (g *GitHub) Setting() string {
	return setting([]map[string]any{{"name": GitHubApp, "appId": g.appID, "privateKey": g.pem, "apiUrl": g.URL()}})
}

// PrivateKey is the app's key, in PEM.
func (g *GitHub) PrivateKey() string { return g.pem }

// InstallAtOrganization installs the app, under a new id, for repositories of
// an organization.
func (g *GitHub) InstallAtOrganization(login string, repositories ...string) {
	g.install("orgs", login, repositories)
}

// InstallAtUser installs the app for repositories of a person.
func (g *GitHub) InstallAtUser(login string, repositories ...string) {
	g.install("users", login, repositories)
}

func (g *GitHub) install(kind, login string, repositories []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	g.owners[strings.ToLower(login)] = &githubOwner{login: login, kind: kind, installation: 1000 + g.last, repositories: repositories}
}

// Uninstall takes the app away from an owner.
func (g *GitHub) Uninstall(login string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.owners, strings.ToLower(login))
}

// Suspend has an owner's installation exist without being of use.
func (g *GitHub) Suspend(login string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.owners[strings.ToLower(login)].suspended = true
}

// Rename gives an owner a new name. The old one leads there.
func (g *GitHub) Rename(from, to string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	owner := g.owners[strings.ToLower(from)]
	delete(g.owners, strings.ToLower(from))
	owner.login = to
	g.owners[strings.ToLower(to)] = owner
	g.renamed[strings.ToLower(from)] = to
}

// LimitRequests lets so many more requests pass before the rate limit, or any
// number for -1.
func (g *GitHub) LimitRequests(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remaining = n
}

// Grant is what a token is good for, nil if it is none.
func (g *GitHub) Grant(token string) *GitHubGrant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.grants[token]
}

func (g *GitHub) serve(w http.ResponseWriter, r *http.Request) {
	text := body(r)
	if r.UserAgent() == "" {
		g.refuse(w, http.StatusForbidden, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header")
		return
	}
	if v := r.Header.Get("X-GitHub-Api-Version"); v != "" && v != "2022-11-28" {
		g.refuse(w, http.StatusBadRequest, "Version "+v+" is not a valid version.")
		return
	}
	if err := g.authenticate(r); err != nil {
		g.refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	if g.limited(w) {
		return
	}
	switch part := strings.Split(r.URL.Path, "/"); {
	case r.Method == http.MethodGet && len(part) == 4 && (part[1] == "orgs" || part[1] == "users") && part[3] == "installation":
		g.findInstallation(w, part[1], part[2])
	case r.Method == http.MethodPost && len(part) == 5 && part[1] == "app" && part[2] == "installations" && part[4] == "access_tokens":
		g.makeToken(w, part[3], text)
	default:
		g.refuse(w, http.StatusNotFound, "Not Found")
	}
}

// authenticate checks the token by which the app proves itself.
func (g *GitHub) authenticate(r *http.Request) error {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return fmt.Errorf("A JSON web token could not be decoded")
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return g.key, nil },
		jwt.WithValidMethods([]string{"RS256"}), jwt.WithTimeFunc(g.now), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithIssuer(g.appID))
	switch {
	case err != nil:
		return fmt.Errorf("A JSON web token could not be decoded: %w", err)
	case claims.IssuedAt == nil:
		return fmt.Errorf("Missing 'issued at' claim ('iat') in assertion")
	case claims.ExpiresAt.After(g.now().Add(10 * time.Minute)):
		return fmt.Errorf("'Expiration time' claim ('exp') is too far in the future")
	}
	return nil
}

// limited counts a request, and answers it when there were too many.
func (g *GitHub) limited(w http.ResponseWriter) bool {
	g.mu.Lock()
	left := g.remaining
	if left > 0 {
		g.remaining--
	}
	g.mu.Unlock()
	if left != 0 {
		return false
	}
	w.Header().Set("X-RateLimit-Limit", "5000")
	w.Header().Set("X-RateLimit-Remaining", "0")
	w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(g.now().Add(time.Hour).Unix(), 10))
	g.refuse(w, http.StatusForbidden, "API rate limit exceeded for app ID "+g.appID+".")
	return true
}

func (g *GitHub) findInstallation(w http.ResponseWriter, kind, name string) {
	g.mu.Lock()
	owner, to := g.owners[strings.ToLower(name)], g.renamed[strings.ToLower(name)]
	g.mu.Unlock()
	switch {
	case owner != nil && owner.kind == kind:
		found := map[string]any{
			"id": owner.installation, "app_id": 4711, "permissions": g.permissions, "repository_selection": "selected",
			"account": map[string]any{"login": owner.login}, "suspended_at": nil,
		}
		if owner.suspended {
			found["suspended_at"] = g.now().UTC().Format(time.RFC3339)
		}
		writeJSON(w, http.StatusOK, found)
	case owner == nil && to != "":
		w.Header().Set("Location", g.URL()+"/"+kind+"/"+to+"/installation")
		g.refuse(w, http.StatusMovedPermanently, "Moved Permanently")
	default:
		g.refuse(w, http.StatusNotFound, "Not Found")
	}
}

func (g *GitHub) makeToken(w http.ResponseWriter, id string, text []byte) {
	g.mu.Lock()
	var owner *githubOwner
	for _, o := range g.owners {
		if strconv.FormatInt(o.installation, 10) == id {
			owner = o
		}
	}
	g.mu.Unlock()
	if owner == nil {
		g.refuse(w, http.StatusNotFound, "Not Found")
		return
	}
	if owner.suspended {
		g.refuse(w, http.StatusForbidden, "This installation has been suspended")
		return
	}
	var in struct {
		Repositories []string          `json:"repositories"`
		Permissions  map[string]string `json:"permissions"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(text), &in); err != nil {
		g.refuse(w, http.StatusBadRequest, "Problems parsing JSON")
		return
	}
	// As at GitHub, who asks for nothing in particular gets all.
	grant := &GitHubGrant{Owner: owner.login, Repositories: owner.repositories, Permissions: map[string]string{}, Expires: g.now().Add(time.Hour).UTC().Truncate(time.Second)}
	if len(in.Repositories) > 0 {
		grant.Repositories = nil
		for _, name := range in.Repositories {
			at := slices.IndexFunc(owner.repositories, func(have string) bool { return strings.EqualFold(have, name) })
			if at < 0 || len(in.Repositories) > 500 {
				g.refuse(w, http.StatusUnprocessableEntity, "There is at least one repository that does not exist or is not accessible to the parent installation.")
				return
			}
			grant.Repositories = append(grant.Repositories, owner.repositories[at])
		}
	}
	if len(in.Permissions) == 0 {
		in.Permissions = g.permissions
	}
	levels := []string{"read", "write", "admin"}
	for name, level := range in.Permissions {
		if have := g.permissions[name]; slices.Index(levels, level) < 0 || slices.Index(levels, level) > slices.Index(levels, have) {
			g.refuse(w, http.StatusUnprocessableEntity, "The permissions requested are not granted to this installation.")
			return
		}
		grant.Permissions[name] = level
	}
	if grant.Permissions["metadata"] == "" {
		grant.Permissions["metadata"] = "read" // every token has it
	}
	token := random("ghs_")
	g.mu.Lock()
	g.grants[token] = grant
	g.mu.Unlock()
	writeJSON(w, http.StatusCreated, map[string]any{
		"token": token, "expires_at": grant.Expires.Format(time.RFC3339), "permissions": grant.Permissions,
		"repository_selection": "selected", "repositories": describeRepositories(grant),
	})
}

// describeRepositories describes repositories at GitHub's length, which is
// about seven kilobytes for each, most of it URLs.
func describeRepositories(grant *GitHubGrant) []map[string]any {
	var all []map[string]any
	for _, name := range grant.Repositories {
		full := grant.Owner + "/" + name
		one := map[string]any{"name": name, "full_name": full, "owner": map[string]any{"login": grant.Owner}}
		for i := range 75 {
			one[fmt.Sprintf("link_%d_url", i)] = "https://api.github.com/repos/" + full + "/one-of-many-things{/of_this_repository}"
		}
		all = append(all, one)
	}
	return all
}

func (g *GitHub) refuse(w http.ResponseWriter, status int, message string) {
	g.note("%d: %s", status, message)
	writeJSON(w, status, map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest", "status": strconv.Itoa(status)})
}
