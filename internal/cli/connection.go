package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/config"
)

// remote are the flags of commands that talk to a deployment.
type remote struct {
	RootURL string `name:"root-url" placeholder:"URL" help:"The deployment (default: TASKCLUSTER_ROOT_URL, or else that of data/root.env)."`
	JSON    bool   `name:"json" help:"Print JSON."`
}

// The variables that a client reads, as all of Taskcluster's tools do.
const (
	envRootURL     = "TASKCLUSTER_ROOT_URL"
	envProxyURL    = "TASKCLUSTER_PROXY_URL"
	envClientID    = "TASKCLUSTER_CLIENT_ID"
	envAccessToken = "TASKCLUSTER_ACCESS_TOKEN"
	envCertificate = "TASKCLUSTER_CERTIFICATE"
)

var errNoDeployment = errors.New(`no deployment is known: set TASKCLUSTER_ROOT_URL, or give --root-url, or run this where "taskcluster serve" has made data/root.env`)

// queue connects to the queue.
func (r *remote) queue(s *session) (*queue.Client, client.Config, error) {
	cfg, err := r.config(s)
	if err != nil {
		return nil, cfg, err
	}
	q, err := queue.New(cfg)
	return q, cfg, err
}

// config finds the deployment and the credentials for it: from the flag and the
// environment, or, when the environment says nothing, from the root.env that a
// deployment leaves in its data directory. Credentials from that file are used
// for its own root URL alone.
func (r *remote) config(s *session) (client.Config, error) {
	cfg := client.Config{
		RootURL: s.getenv(envRootURL),
		Credentials: client.Credentials{
			ClientID:    s.getenv(envClientID),
			AccessToken: s.getenv(envAccessToken),
			Certificate: s.getenv(envCertificate),
		},
		UserAgent: "taskcluster-cli",
		Sleep:     s.sleep,
	}
	if cfg.Credentials.ClientID == "" {
		cfg.Credentials = client.Credentials{}
		if proxy := s.getenv(envProxyURL); proxy != "" {
			cfg.RootURL = proxy
		}
	} else if cfg.Credentials.AccessToken == "" {
		return cfg, errors.New("TASKCLUSTER_CLIENT_ID is set, but TASKCLUSTER_ACCESS_TOKEN is not: set both or none")
	}
	bare := cfg.RootURL == "" && cfg.Credentials.ClientID == ""
	if r.RootURL != "" {
		cfg.RootURL = r.RootURL
	}
	if bare {
		path := filepath.Join(dataDir(s), "root.env")
		found, err := readRootEnv(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return cfg, err
		case cfg.RootURL == "" || strings.TrimRight(cfg.RootURL, "/") == found[envRootURL]:
			cfg.RootURL = found[envRootURL]
			cfg.Credentials = client.Credentials{ClientID: found[envClientID], AccessToken: found[envAccessToken]}
			fmt.Fprintf(s.stderr, "Using %s (%s).\n", path, cfg.RootURL)
		}
	}
	if cfg.RootURL == "" {
		return cfg, errNoDeployment
	}
	return cfg, nil
}

// dataDir is the data directory that serve would use by default.
func dataDir(s *session) string {
	if dir := s.getenv(config.EnvName("data-dir")); dir != "" {
		return dir
	}
	return "data"
}

// readRootEnv reads the file that serve leaves in its data directory: lines
// "export NAME=value".
func readRootEnv(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s may be read only by its owner, the user who runs serve: become that user, or set TASKCLUSTER_ROOT_URL and credentials", path)
	}
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if ok {
			found[name] = value
		}
	}
	for _, name := range []string{envRootURL, envClientID, envAccessToken} {
		if found[name] == "" {
			return nil, fmt.Errorf("%s does not set %s; start serve again, which writes the file anew", path, name)
		}
	}
	return found, nil
}
