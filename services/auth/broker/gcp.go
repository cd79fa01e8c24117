package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"
	"golang.org/x/sync/singleflight"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/tcerr"
)

// cloudPlatform is the scope of Google's that allows what the account's own
// roles allow.
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// GCP gives access tokens of Google service accounts. It has them from
// Google's IAM, where a service account of the deployment may act for others.
type GCP struct {
	projectID string // "" without a setting
	allowed   []string
	endpoint  string
	web       *http.Client
	tokens    oauth2.TokenSource
	flights   singleflight.Group // one caller at a time asks tokens
}

// gcpProject is the value of the setting's one member, whose name is the
// project's id.
type gcpProject struct {
	Credentials            json.RawMessage `json:"credentials"`
	AllowedServiceAccounts []string        `json:"allowedServiceAccounts"`
	Endpoint               string          `json:"endpoint"` // of IAM; Google's own when empty
}

// gcpKey is what is needed of a service account's key file, which has more.
type gcpKey struct {
	Type         string      `json:"type"`
	PrivateKeyID string      `json:"private_key_id"`
	PrivateKey   secret.Text `json:"private_key"`
	ClientEmail  string      `json:"client_email"`
	TokenURI     string      `json:"token_uri"`
}

// GCPToken is an access token of a service account.
type GCPToken struct {
	Token   string
	Expires clock.Time
}

func newGCP(text string, web *http.Client) (*GCP, error) {
	g := &GCP{web: web}
	if text == "" {
		return g, nil
	}
	var projects map[string]gcpProject
	if err := parse(GCPSetting, text, &projects); err != nil {
		return nil, err
	}
	if len(projects) != 1 {
		return nil, fmt.Errorf("setting %s: one project is needed, and not more", GCPSetting)
	}
	for id, p := range projects {
		var key gcpKey
		if json.Unmarshal(p.Credentials, &key) != nil || id == "" || key.Type != "service_account" || key.ClientEmail == "" || key.PrivateKey == "" {
			return nil, fmt.Errorf("setting %s: credentials must be the content of a service account's key file", GCPSetting)
		}
		if _, err := parsePrivateKey(string(key.PrivateKey)); err != nil {
			return nil, fmt.Errorf("setting %s: private_key: %w", GCPSetting, err)
		}
		tokenURL, err := endpoint(GCPSetting, "token_uri", key.TokenURI, "https://oauth2.googleapis.com/token")
		if err != nil {
			return nil, err
		}
		if g.endpoint, err = endpoint(GCPSetting, "endpoint", p.Endpoint, "https://iamcredentials.googleapis.com"); err != nil {
			return nil, err
		}
		own := jwt.Config{
			Email: key.ClientEmail, PrivateKey: []byte(key.PrivateKey), PrivateKeyID: key.PrivateKeyID,
			Scopes: []string{cloudPlatform}, TokenURL: tokenURL,
		}
		g.projectID, g.allowed = id, p.AllowedServiceAccounts
		g.tokens = own.TokenSource(context.WithValue(context.Background(), oauth2.HTTPClient, web))
	}
	return g, nil
}

// Token is an access token of a service account of the project.
func (g *GCP) Token(ctx context.Context, projectID, serviceAccount string) (GCPToken, error) {
	switch {
	case g.projectID == "":
		return GCPToken{}, tcerr.New(tcerr.ResourceNotFound, "Google Cloud credentials are not available: the setting %s is not set", GCPSetting)
	case projectID != g.projectID:
		return GCPToken{}, tcerr.New(tcerr.ResourceNotFound, "The project %s not found. The setting %s names the project that this deployment gives access to.", projectID, GCPSetting)
	case !slices.Contains(g.allowed, serviceAccount):
		return GCPToken{}, tcerr.New(tcerr.InvalidRequestArguments, "The service account %s is not allowed: the setting %s does not name it in allowedServiceAccounts", serviceAccount, GCPSetting)
	}
	own, err := g.own(ctx)
	if err != nil {
		return GCPToken{}, fmt.Errorf("the deployment's Google service account: %w", err)
	}
	said, err := ask(ctx, g.web, http.MethodPost,
		g.endpoint+"/v1/projects/-/serviceAccounts/"+url.PathEscape(serviceAccount)+":generateAccessToken",
		http.Header{"Authorization": {"Bearer " + own}},
		map[string]any{"scope": []string{cloudPlatform}, "lifetime": fmt.Sprintf("%.0fs", credentialLifetime.Seconds())})
	if err != nil {
		return GCPToken{}, err
	}
	if said.status == http.StatusNotFound {
		return GCPToken{}, tcerr.New(tcerr.ResourceNotFound, "Google knows no service account %s", serviceAccount)
	}
	var reply struct {
		AccessToken string    `json:"accessToken"`
		ExpireTime  time.Time `json:"expireTime"`
		Error       struct {
			Status string `json:"status"`
		} `json:"error"`
	}
	if err := said.decode(&reply); err != nil {
		return GCPToken{}, err
	}
	if said.status != http.StatusOK || reply.AccessToken == "" || reply.ExpireTime.IsZero() {
		return GCPToken{}, said.unexpected(reply.Error.Status)
	}
	return GCPToken{Token: reply.AccessToken, Expires: clock.Of(reply.ExpireTime)}, nil
}

// own is an access token of the deployment's service account. One request for it
// serves all who wait, none of whom waits longer than he has time.
func (g *GCP) own(ctx context.Context) (string, error) {
	done := g.flights.DoChan("", func() (any, error) { return g.tokens.Token() })
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case r := <-done:
		var refusal *oauth2.RetrieveError
		switch {
		case errors.As(r.Err, &refusal):
			var reason struct {
				Error string `json:"error"`
			}
			_ = json.Unmarshal(refusal.Body, &reason) // whatever it is, the status is told
			return "", fmt.Errorf("status %d: %q", refusal.Response.StatusCode, short(reason.Error))
		case r.Err != nil:
			return "", r.Err
		}
		return r.Val.(*oauth2.Token).AccessToken, nil
	}
}
