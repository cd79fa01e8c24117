package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/store"
)

// StaticClient is a client that configuration makes. Those of the deployment
// itself, static/taskcluster/..., have an access token only: their scopes and
// descriptions are built in, and there must be one for each of
// InternalClients.
type StaticClient struct {
	ClientID    string   `json:"clientId"`    // begins with "static/"
	AccessToken string   `json:"accessToken"` // 22 to 66 letters, digits, - and _
	Description string   `json:"description"`
	Scopes      []string `json:"scopes"` // nil when not given
}

// String shows the client's id and hides its token.
func (c StaticClient) String() string { return "auth.StaticClient{" + c.ClientID + "}" }

// GoString is what %#v prints; it hides the token.
func (c StaticClient) GoString() string { return c.String() }

// LogValue hides the token.
func (c StaticClient) LogValue() slog.Value { return slog.StringValue(c.String()) }

const (
	ownPrefix       = staticPrefix + "taskcluster"
	ownDescription  = "Internal client"
	staticSuffix    = "\n---\nThis is a **static client** inserted into this taskcluster deployment\nthrough static configuration. To modify this client you must contact the\nadministrator who deploys this taskcluster instance."
	staticTokenText = `^[a-zA-Z0-9_-]{22,66}$`
)

// staticLifetime is 1000 years of 365 days, more than a time.Duration holds.
const staticLifetime = clock.Time(1000 * 365 * 24 * 60 * 60 * 1_000_000)

// serviceScopes are the scopes of the deployment's own clients.
func serviceScopes() map[string][]string {
	webServer := []string{
		"assume:github-org-admin:*", "assume:github-team:*", "assume:login-identity:*",
		"assume:mozilla-group:*", "assume:mozillians-group:*",
	}
	for _, may := range []string{"create-client", "update-client", "delete-client", "enable-client", "disable-client", "reset-access-token"} {
		webServer = append(webServer, "auth:"+may+":github/*", "auth:"+may+":mozilla-auth0/*")
	}
	return map[string][]string{
		"root": {"*"},
		// Signs the credentials of tasks, which have any scopes.
		"queue":            {"*"},
		"built-in-workers": {"queue:claim-work:built-in/*", "queue:worker-id:built-in/*"},
		"github": {
			"assume:repo:github.com/*", "assume:scheduler-id:taskcluster-github/*",
			"auth:expand-scopes",
			"hooks:trigger-hook:*",
			"queue:cancel-task-group:taskcluster-github/*", "queue:seal-task-group:taskcluster-github/*",
			"queue:list-task-group:*", "queue:list-artifacts:*",
			"queue:get-artifact:public/github/customCheckRunAnnotations.json",
			"queue:get-artifact:public/github/customCheckRunText.md",
			"queue:get-artifact:public/logs/live_backing.log",
			"queue:route:checks", "queue:route:statuses",
			"queue:scheduler-id:taskcluster-github",
		},
		"hooks":       {"assume:hook-id:*", "notify:email:*", "queue:create-task:*"},
		"index":       {"queue:get-artifact:*", "queue:get-task:*"},
		"notify":      {"queue:get-task:*"},
		"object":      {},
		"purge-cache": {},
		"secrets":     {},
		"web-server":  webServer,
		"worker-manager": {
			"assume:worker-id:*", "assume:worker-pool:*", "assume:worker-type:*",
			"auth:create-client:worker/*",
			"notify:email:*",
			"queue:claim-work:*", "queue:claimed-count:*", "queue:pending-count:*", "queue:worker-id:*",
			"secrets:get:worker-pool:*", "secrets:get:worker-type:*",
			"worker-manager:remove-worker:*", "worker-manager:reregister-worker:*", "worker-manager:should-worker-terminate:*",
		},
	}
}

// InternalClients are the ids of the deployment's own clients, in order:
// "static/taskcluster/built-in-workers", ...
func InternalClients() []string {
	var ids []string
	for name := range serviceScopes() {
		ids = append(ids, ownPrefix+"/"+name)
	}
	slices.Sort(ids)
	return ids
}

// checkStatic checks the configured clients, and fills in what is built in.
// The error names all that is wrong.
func checkStatic(configured []StaticClient) (map[string]StaticClient, error) {
	own := serviceScopes()
	token := regexp.MustCompile(staticTokenText)
	all := map[string]StaticClient{}
	var problems []error
	for _, c := range configured {
		bad := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("static client %q: "+format, append([]any{c.ClientID}, args...)...))
		}
		if !strings.HasPrefix(c.ClientID, staticPrefix) || !validClientID(c.ClientID) {
			bad(`the clientId must begin with "static/" and match %s`, clientIDPattern)
			continue
		}
		if _, twice := all[c.ClientID]; twice {
			bad("it is configured twice")
		}
		if !token.MatchString(c.AccessToken) {
			bad("the accessToken must match %s", staticTokenText)
		}
		if strings.HasPrefix(c.ClientID, ownPrefix) {
			name, _ := strings.CutPrefix(c.ClientID, ownPrefix+"/")
			scopes, known := own[name]
			if !known {
				bad("there is no such client of the deployment's own")
			}
			if c.Scopes != nil {
				bad("scopes are not allowed, those of the deployment's own clients are built in")
			}
			c.Scopes, c.Description = scopes, ownDescription
		} else {
			if c.Scopes == nil || c.Description == "" {
				bad("scopes and description are needed")
			}
			if err := checkGrantable(c.Scopes); err != nil {
				bad("scopes must not end with `**`")
			}
		}
		c.Description += staticSuffix
		all[c.ClientID] = c
	}
	for _, id := range InternalClients() {
		if _, ok := all[id]; !ok {
			problems = append(problems, fmt.Errorf("static client %q is missing: each of the deployment's own clients needs an accessToken", id))
		}
	}
	if problems != nil {
		return nil, fmt.Errorf("auth: %w", errors.Join(problems...))
	}
	return all, nil
}

// syncStatic makes the stored static clients those that are wanted.
func (s *Service) syncStatic(ctx context.Context, wanted map[string]StaticClient) error {
	ids := make([]string, 0, len(wanted))
	for id := range wanted {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return s.store.Write(ctx, func(tx *store.Tx) error {
		stored := map[string]*client{}
		rows := tx.Query(stmt.listClients, "", staticPrefix, staticPrefix+"\x7f", maxStatic)
		defer rows.Close()
		for rows.Next() {
			c, err := s.scanClient(rows)
			if err != nil {
				return err
			}
			stored[c.id] = c
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for id := range stored {
			if _, keep := wanted[id]; !keep {
				if _, err := tx.Exec(stmt.deleteClient, id); err != nil {
					return err
				}
				if err := s.staticChanged(tx, id, "deleted", clientDeleted); err != nil {
					return err
				}
			}
		}
		for _, id := range ids {
			if err := s.putStatic(tx, stored[id], wanted[id]); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxStatic is how many static clients are looked for at most.
const maxStatic = 1 << 20

// putStatic makes a static client, or brings it up to date. Its expiry, and
// whether it is disabled, stay as they are.
func (s *Service) putStatic(tx *store.Tx, old *client, wanted StaticClient) error {
	now := tx.Now()
	if old == nil {
		ok, err := s.insertClient(tx, &client{
			id: wanted.ClientID, description: wanted.Description, token: secret.Text(wanted.AccessToken), scopes: wanted.Scopes,
			expires: now + staticLifetime, created: now, lastModified: now, lastDateUsed: now, lastRotated: now,
		})
		if err != nil || !ok { // !ok: another process that starts made it
			return err
		}
		return s.staticChanged(tx, wanted.ClientID, "created", clientCreated)
	}
	sameToken := string(old.token) == wanted.AccessToken
	if sameToken && old.description == wanted.Description && slices.Equal(old.scopes, wanted.Scopes) {
		return nil
	}
	old.description, old.scopes, old.lastModified = wanted.Description, wanted.Scopes, now
	if err := storeUpdate(tx, old); err != nil {
		return err
	}
	if !sameToken {
		if _, err := tx.Exec(stmt.setToken, s.seal(old.id, secret.Text(wanted.AccessToken)), now, now, old.id); err != nil {
			return err
		}
	}
	return s.staticChanged(tx, old.id, "updated", clientUpdated)
}

func (s *Service) staticChanged(tx *store.Tx, id, action, exchange string) error {
	if err := writeAudit(tx, entityClient, id, ownClientID, action); err != nil {
		return err
	}
	return s.clientChanged(tx, exchange, id)
}
