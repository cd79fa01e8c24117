package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"taskcluster/internal/hawk"
)

// Credentials are what calls are signed with: ClientID, AccessToken, for
// temporary ones Certificate, and optionally AuthorizedScopes (nil is no
// restriction, an empty list leaves only what anyone may do). Formatting and
// logging them never shows the secrets.
type Credentials = hawk.Credentials

// TemporaryOptions say which temporary credentials to make.
type TemporaryOptions = hawk.TemporaryOptions

// CredentialSource returns the credentials for the next try of a call. It is
// for those whose credentials change while they run, such as workers, and must
// be safe for concurrent use. Credentials without a ClientID are anonymous.
type CredentialSource func(ctx context.Context) (Credentials, error)

// Defaults of Config.
const (
	DefaultRetries          = 4 // five tries in all
	DefaultTimeout          = 30 * time.Second
	DefaultMaxBackoff       = 30 * time.Second
	DefaultMaxResponseBytes = 64 << 20
	DefaultUserAgent        = "taskcluster-go"
)

// Config is how to reach a deployment and as whom. Only RootURL is required.
type Config struct {
	// RootURL is the deployment's URL, such as https://tc.example.com.
	RootURL string

	// Credentials sign the calls; without ClientID the calls are anonymous.
	Credentials Credentials
	// CredentialSource, if set, is asked instead of Credentials before each try.
	CredentialSource CredentialSource

	// Transport sends the requests. Nil is a transport of the client's own,
	// which its Close shuts. See also NewTransport and InProcess.
	Transport http.RoundTripper

	// Retries is the number of tries after the first; 0 is DefaultRetries,
	// negative is none.
	Retries int
	// MaxBackoff limits the pause between tries, which starts at 100 ms and
	// doubles; 0 is DefaultMaxBackoff.
	MaxBackoff time.Duration
	// Timeout limits each try, reading of the reply included; 0 is DefaultTimeout.
	// It must exceed the 20 s that claimWork may wait.
	Timeout time.Duration
	// MaxResponseBytes limits the body of a reply; 0 is DefaultMaxResponseBytes.
	MaxResponseBytes int64
	// UserAgent is sent with each request; empty is DefaultUserAgent.
	UserAgent string

	// Now tells the time that signatures carry; nil is time.Now.
	Now func() time.Time
	// Sleep pauses between tries, and returns early with ctx's error when ctx
	// ends; nil sleeps in real time.
	Sleep func(ctx context.Context, d time.Duration) error
}

// FromEnv reads the settings that Taskcluster's tools share:
// TASKCLUSTER_ROOT_URL, TASKCLUSTER_CLIENT_ID, TASKCLUSTER_ACCESS_TOKEN and
// TASKCLUSTER_CERTIFICATE. In a task there are no credentials, but
// TASKCLUSTER_PROXY_URL may lead to a proxy that adds the task's own; it is
// used when there is no client id.
func FromEnv() (Config, error) {
	cfg := Config{
		RootURL: os.Getenv("TASKCLUSTER_ROOT_URL"),
		Credentials: Credentials{
			ClientID:    os.Getenv("TASKCLUSTER_CLIENT_ID"),
			AccessToken: os.Getenv("TASKCLUSTER_ACCESS_TOKEN"),
			Certificate: os.Getenv("TASKCLUSTER_CERTIFICATE"),
		},
	}
	if cfg.Credentials.ClientID == "" {
		cfg.Credentials = Credentials{}
		if proxy := os.Getenv("TASKCLUSTER_PROXY_URL"); proxy != "" {
			cfg.RootURL = proxy
		}
	}
	if cfg.RootURL == "" {
		return Config{}, errors.New("client: TASKCLUSTER_ROOT_URL is not set")
	}
	if cfg.Credentials.ClientID != "" && cfg.Credentials.AccessToken == "" {
		return Config{}, errors.New("client: TASKCLUSTER_CLIENT_ID is set, TASKCLUSTER_ACCESS_TOKEN is not")
	}
	return cfg, nil
}

// Temporary returns the same settings with temporary credentials that c's
// (permanent) Credentials issue.
func (c Config) Temporary(o TemporaryOptions) (Config, error) {
	if c.CredentialSource != nil {
		return Config{}, errors.New("client: a credential source cannot issue temporary credentials")
	}
	temporary, err := c.Credentials.Temporary(o)
	if err != nil {
		return Config{}, fmt.Errorf("client: %w", err)
	}
	c.Credentials = temporary
	return c, nil
}

// withDefaults returns c checked and with all fields filled in, except
// Transport.
func (c Config) withDefaults() (Config, error) {
	root, err := url.Parse(c.RootURL)
	switch {
	case c.RootURL == "":
		return c, errors.New("client: no root URL")
	case err != nil || root.Scheme != "http" && root.Scheme != "https" || root.Host == "":
		// Not the URL itself: it may hold a password.
		return c, errors.New("client: root URL must be http(s)://host[:port], such as http://localhost:8080")
	case root.User != nil || root.RawQuery != "" || root.Fragment != "":
		return c, errors.New("client: root URL must not have a user, query or fragment")
	}
	c.RootURL = strings.TrimRight(c.RootURL, "/")
	if c.CredentialSource == nil {
		credentials := c.Credentials
		c.CredentialSource = func(context.Context) (Credentials, error) { return credentials, nil }
	}
	if c.Retries == 0 {
		c.Retries = DefaultRetries
	}
	if c.MaxBackoff <= 0 {
		c.MaxBackoff = DefaultMaxBackoff
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.MaxResponseBytes <= 0 {
		c.MaxResponseBytes = DefaultMaxResponseBytes
	}
	if c.UserAgent == "" {
		c.UserAgent = DefaultUserAgent
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = sleep
	}
	return c, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// backoff returns the pause before try n (1 is the first retry): 100 ms,
// doubled each time, give or take a quarter, at most MaxBackoff.
func (c *Config) backoff(n int) time.Duration {
	d := c.MaxBackoff
	if n < 30 {
		d = min(d, 100*time.Millisecond<<(n-1))
	}
	jittered := float64(d) * (0.75 + 0.5*rand.Float64())
	return min(time.Duration(jittered), c.MaxBackoff)
}

// NewTransport returns an HTTP transport fit for many concurrent calls to one
// host. Clients may share it.
func NewTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	return t
}

// RotatingCredentials hold credentials that are replaced while calls are
// made, as a worker's are at each reclaim. The zero value is anonymous.
type RotatingCredentials struct {
	current atomic.Pointer[Credentials]
}

// Set makes later tries use c.
func (r *RotatingCredentials) Set(c Credentials) { r.current.Store(&c) }

// Get is a CredentialSource.
func (r *RotatingCredentials) Get(context.Context) (Credentials, error) {
	if c := r.current.Load(); c != nil {
		return *c, nil
	}
	return Credentials{}, nil
}
