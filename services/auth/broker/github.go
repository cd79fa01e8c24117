package broker

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/tcerr"
)

const (
	// installationKept is how long it is remembered how an app is installed,
	// maxInstallations of how many owners.
	installationKept = time.Hour
	maxInstallations = 1000
	// appTokenLifetime is how long the token lasts by which an app proves to be
	// itself. GitHub takes ten minutes at most, and its clock may be ahead.
	appTokenLifetime = 8 * time.Minute
	appTokenSkew     = time.Minute
)

// GitHub gives tokens of GitHub apps that are good for some repositories of an
// owner and some permissions.
type GitHub struct {
	apps  map[string]*githubApp
	web   *http.Client
	clock clock.Clock

	mu            sync.Mutex
	installations map[installationKey]installation
}

// githubApp is one element of the setting.
type githubApp struct {
	Name       string      `json:"name"` // the appName of requests
	AppID      appID       `json:"appId"`
	PrivateKey secret.Text `json:"privateKey"` // PEM
	APIURL     string      `json:"apiUrl"`     // https://api.github.com when empty

	key *rsa.PrivateKey
}

// appID is a number to GitHub, and its client id may stand for it.
type appID string

func (id *appID) UnmarshalJSON(text []byte) error {
	var number json.Number
	if json.Unmarshal(text, &number) == nil {
		*id = appID(number)
		return nil
	}
	return json.Unmarshal(text, (*string)(id))
}

type installationKey struct{ app, owner string }

type installation struct {
	id    int64
	until clock.Time
}

// GitHubToken is a token of an app.
type GitHubToken struct {
	Token   string
	Expires clock.Time
}

func newGitHub(text string, web *http.Client, c clock.Clock) (*GitHub, error) {
	g := &GitHub{apps: map[string]*githubApp{}, installations: map[installationKey]installation{}, web: web, clock: c}
	if text == "" {
		return g, nil
	}
	var apps []*githubApp
	if err := parse(GitHubSetting, text, &apps); err != nil {
		return nil, err
	}
	for i, app := range apps {
		if app == nil || app.Name == "" || app.AppID == "" || app.PrivateKey == "" || g.apps[app.Name] != nil {
			return nil, fmt.Errorf("setting %s: element %d needs a name that no other has, appId and privateKey", GitHubSetting, i)
		}
		var err error
		if app.key, err = parsePrivateKey(string(app.PrivateKey)); err != nil {
			return nil, fmt.Errorf("setting %s: privateKey of %s: %w", GitHubSetting, app.Name, err)
		}
		if app.APIURL, err = endpoint(GitHubSetting, "apiUrl", app.APIURL, "https://api.github.com"); err != nil {
			return nil, err
		}
		g.apps[app.Name] = app
	}
	return g, nil
}

// parsePrivateKey reads an RSA key in PEM. Its error does not repeat it.
func parsePrivateKey(pem string) (*rsa.PrivateKey, error) {
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(pem))
	if err != nil {
		return nil, errors.New("not an RSA key in PEM")
	}
	return key, nil
}

// RepoToken is a token for repositories of owner, both in lower case, with
// permissions as GitHub names them.
func (g *GitHub) RepoToken(ctx context.Context, appName, owner string, repositories []string, permissions map[string]string) (GitHubToken, error) {
	app := g.apps[appName]
	if app == nil {
		return GitHubToken{}, tcerr.New(tcerr.ResourceNotFound, "GitHub app %s not found. The setting %s names the apps that this deployment gives tokens of.", appName, GitHubSetting)
	}
	if len(repositories) == 0 || len(permissions) == 0 { // which means all to GitHub
		return GitHubToken{}, tcerr.New(tcerr.InputError, "Repositories and permissions must be named")
	}
	if owner == "." || owner == ".." { // which URLs have another meaning for
		return GitHubToken{}, notInstalled(appName, owner)
	}
	id, remembered, err := g.installation(ctx, app, owner)
	if err != nil {
		return GitHubToken{}, err
	}
	token, err := g.token(ctx, app, owner, id, repositories, permissions)
	if errors.Is(err, errNotInstalled) && remembered {
		// It may have been installed anew since.
		g.forget(app, owner)
		if id, _, err = g.installation(ctx, app, owner); err != nil {
			return GitHubToken{}, err
		}
		token, err = g.token(ctx, app, owner, id, repositories, permissions)
	}
	if errors.Is(err, errNotInstalled) {
		g.forget(app, owner)
		err = notInstalled(appName, owner)
	}
	return token, err
}

var errNotInstalled = errors.New("not installed")

func notInstalled(appName, owner string) error {
	return tcerr.New(tcerr.ResourceNotFound, "GitHub app %s is not installed for %s", appName, owner)
}

// installation finds how an app is installed at an owner, in memory or by
// asking GitHub.
func (g *GitHub) installation(ctx context.Context, app *githubApp, owner string) (id int64, remembered bool, err error) {
	key := installationKey{app.Name, owner}
	g.mu.Lock()
	known, ok := g.installations[key]
	g.mu.Unlock()
	if ok && known.until > g.clock.Now() {
		return known.id, true, nil
	}
	if id, err = g.lookUp(ctx, app, owner); err != nil {
		return 0, false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.installations[key]; !ok && len(g.installations) >= maxInstallations {
		for other := range g.installations {
			delete(g.installations, other)
			break
		}
	}
	g.installations[key] = installation{id, g.clock.Now().Add(installationKept)}
	return id, false, nil
}

func (g *GitHub) forget(app *githubApp, owner string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.installations, installationKey{app.Name, owner})
}

// lookUp asks GitHub for an installation at an organization, or else at a
// person.
func (g *GitHub) lookUp(ctx context.Context, app *githubApp, owner string) (int64, error) {
	for _, kind := range []string{"orgs", "users"} {
		said, err := g.ask(ctx, app, http.MethodGet, "/"+kind+"/"+url.PathEscape(owner)+"/installation", nil)
		if err != nil {
			return 0, err
		}
		switch {
		case said.status == http.StatusNotFound:
			continue
		case said.status == http.StatusMovedPermanently, said.status == http.StatusTemporaryRedirect, said.status == http.StatusPermanentRedirect:
			return 0, renamed(owner)
		case said.status != http.StatusOK:
			return 0, refusal(said)
		}
		var found struct {
			ID      int64 `json:"id"`
			Account struct {
				Login string `json:"login"`
			} `json:"account"`
			SuspendedAt *time.Time `json:"suspended_at"`
		}
		if err := said.decode(&found); err != nil {
			return 0, err
		}
		// The caller's scopes are for the name that was asked for. Whoever has
		// that of a renamed owner may be somebody else.
		if !strings.EqualFold(found.Account.Login, owner) {
			return 0, renamed(owner)
		}
		if found.SuspendedAt != nil {
			return 0, tcerr.New(tcerr.ResourceNotFound, "GitHub app %s is suspended for %s", app.Name, owner)
		}
		return found.ID, nil
	}
	return 0, notInstalled(app.Name, owner)
}

func renamed(owner string) error {
	return tcerr.New(tcerr.InputError, "The GitHub owner %s has another name now; ask with that", owner)
}

// token has GitHub make a token of an installation. The error is
// errNotInstalled if GitHub does not know the installation.
func (g *GitHub) token(ctx context.Context, app *githubApp, owner string, installation int64, repositories []string, permissions map[string]string) (GitHubToken, error) {
	said, err := g.ask(ctx, app, http.MethodPost, "/app/installations/"+strconv.FormatInt(installation, 10)+"/access_tokens",
		map[string]any{"repositories": repositories, "permissions": permissions})
	if err != nil {
		return GitHubToken{}, err
	}
	switch said.status {
	case http.StatusCreated:
	case http.StatusNotFound:
		return GitHubToken{}, errNotInstalled
	case http.StatusUnprocessableEntity:
		return GitHubToken{}, tcerr.New(tcerr.InputError, "GitHub gives no such token: %s", said.said("message"))
	default:
		return GitHubToken{}, refusal(said)
	}
	var reply githubReply
	if err := said.decode(&reply); err != nil {
		return GitHubToken{}, err
	}
	if reply.Token == "" || reply.ExpiresAt.IsZero() {
		return GitHubToken{}, said.unexpected("the answer has no token")
	}
	if len(reply.Repositories) == 0 || !reply.within(permissions) {
		return GitHubToken{}, said.unexpected("the token is good for more than was asked for")
	}
	for _, r := range reply.Repositories {
		if r.Owner.Login != "" && !strings.EqualFold(r.Owner.Login, owner) {
			return GitHubToken{}, renamed(owner)
		}
		if !slices.Contains(repositories, strings.ToLower(r.Name)) {
			return GitHubToken{}, tcerr.New(tcerr.InputError, "A repository of %s has another name now; ask with that", owner)
		}
	}
	return GitHubToken{Token: reply.Token, Expires: clock.Of(reply.ExpiresAt)}, nil
}

// githubReply is a token, and what it is good for.
type githubReply struct {
	Token        string            `json:"token"`
	ExpiresAt    time.Time         `json:"expires_at"`
	Permissions  map[string]string `json:"permissions"`
	Repositories []struct {        // missing when it is good for all
		Name  string `json:"name"`
		Owner struct {
			Login string `json:"login"`
		} `json:"owner"`
	} `json:"repositories"`
}

// within tells whether the token has no permissions but these, and the one
// that every token has.
func (r *githubReply) within(permissions map[string]string) bool {
	for name, level := range r.Permissions {
		if permissions[name] != level && !(name == "metadata" && level == "read") {
			return false
		}
	}
	return true
}

// refusal is the error for a request that GitHub refused: too many of them, or
// something that the deployment has to put right.
func refusal(said *answer) error {
	limited := said.status == http.StatusTooManyRequests || said.status == http.StatusForbidden &&
		(said.header.Get("X-RateLimit-Remaining") == "0" || said.header.Get("Retry-After") != "" ||
			strings.Contains(strings.ToLower(said.said("message")), "rate limit"))
	if limited {
		return tcerr.New(tcerr.TooManyRequests, "GitHub has had too many requests of this app; try again later")
	}
	return said.unexpected(said.said("message"))
}

// ask sends a request as the app.
func (g *GitHub) ask(ctx context.Context, app *githubApp, method, path string, body any) (*answer, error) {
	now := g.clock.Now().Std()
	proof, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer:    string(app.AppID),
		IssuedAt:  jwt.NewNumericDate(now.Add(-appTokenSkew)),
		ExpiresAt: jwt.NewNumericDate(now.Add(appTokenLifetime)),
	}).SignedString(app.key)
	if err != nil {
		return nil, err
	}
	return ask(ctx, g.web, method, app.APIURL+path, http.Header{
		"Authorization":        {"Bearer " + proof},
		"Accept":               {"application/vnd.github+json"},
		"X-Github-Api-Version": {"2022-11-28"},
	}, body)
}
