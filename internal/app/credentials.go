package app

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"taskcluster/internal/config"
	"taskcluster/internal/hawk"
	"taskcluster/internal/store/keyring"
	"taskcluster/services/auth"
)

const rootClient = "static/taskcluster/root"

// rootEnvName is the file in the data directory with the root client's
// credentials. It is written when a deployment serves for the first time.
const rootEnvName = "root.env"

// workerClient is the client that the local worker uses.
const workerClient = "static/local/worker"

var tokenPattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{22,66}$`)

// openKeys opens the deployment's keys, or makes them for a new deployment. They
// are made before the database, so a database without keys has lost them, and
// new ones would open nothing of what it holds.
func openKeys(dir, database string) (*keyring.Keyring, error) {
	keys := filepath.Join(dir, keyring.FileName)
	_, keysErr := os.Stat(keys)
	_, databaseErr := os.Stat(database)
	if errors.Is(keysErr, fs.ErrNotExist) && databaseErr == nil {
		return nil, fmt.Errorf("the key file %s is missing, and without it the secrets in %s cannot be read; restore it from a backup", keys, database)
	}
	if root := filepath.Join(dir, rootEnvName); errors.Is(databaseErr, fs.ErrNotExist) {
		if _, err := os.Stat(root); err == nil {
			return nil, fmt.Errorf("the database %s is missing, although %s shows that there was one; restore it from a backup, or delete %s to start with nothing", database, root, root)
		}
	}
	return keyring.Open(dir)
}

// chooseRootToken is the root client's access token. On a database that several
// processes share it is derived from their keys, so that all of them have it.
func (a *App) chooseRootToken(keys *keyring.Keyring) (config.Secret, error) {
	if a.store.Shared() && a.settings.RootAccessToken == nil {
		return config.Secret(serviceToken(keys, rootClient)), nil
	}
	return rootToken(a.settings.RootAccessToken, a.rootEnv)
}

// rootToken is the root client's access token: the one that was set, or the one
// in root.env, or a new one.
func rootToken(set *config.Secret, rootEnv string) (config.Secret, error) {
	if set != nil {
		if !tokenPattern.MatchString(string(*set)) {
			return "", errors.New("setting root-access-token: a token has 22 to 66 letters, digits, - or _")
		}
		return *set, nil
	}
	text, err := os.ReadFile(rootEnv)
	if errors.Is(err, fs.ErrNotExist) {
		var b [33]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", err
		}
		return config.Secret(base64.RawURLEncoding.EncodeToString(b[:])), nil
	}
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if t, ok := strings.CutPrefix(strings.TrimSpace(line), "export TASKCLUSTER_ACCESS_TOKEN="); ok && tokenPattern.MatchString(t) {
			return config.Secret(t), nil
		}
	}
	return "", fmt.Errorf("%s has no line export TASKCLUSTER_ACCESS_TOKEN=…; restore it, or delete the file to get a new token", rootEnv)
}

// writeRootEnv keeps root.env true: the token may have been preset, and the URL
// may differ from last time.
func (a *App) writeRootEnv() error {
	text := fmt.Sprintf("export TASKCLUSTER_ROOT_URL=%s\nexport TASKCLUSTER_CLIENT_ID=%s\nexport TASKCLUSTER_ACCESS_TOKEN=%s\n",
		a.rootURL, rootClient, string(a.token))
	return replaceFile(a.rootEnv, []byte(text))
}

// replaceFile writes a secret file so that, whenever the power goes, either the
// old or the new content is there.
func replaceFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// serviceToken is the access token of one of the deployment's own clients. It
// is derived from the deployment's key, so that it is the same after a restart
// and credentials issued with it stay valid.
func serviceToken(keys *keyring.Keyring, clientID string) string {
	return base64.RawURLEncoding.EncodeToString(keys.Derive("access token of " + clientID))
}

// serviceCredentials are the credentials by which a service calls others.
func serviceCredentials(keys *keyring.Keyring, service string) hawk.Credentials {
	id := "static/taskcluster/" + service
	return hawk.Credentials{ClientID: id, AccessToken: serviceToken(keys, id)}
}

// staticClients are the clients that exist because the deployment does.
func staticClients(keys *keyring.Keyring, rootToken config.Secret) []auth.StaticClient {
	var list []auth.StaticClient
	for _, id := range auth.InternalClients() {
		token := serviceToken(keys, id)
		if id == rootClient {
			token = string(rootToken)
		}
		list = append(list, auth.StaticClient{ClientID: id, AccessToken: token})
	}
	return append(list, auth.StaticClient{
		ClientID: workerClient, AccessToken: serviceToken(keys, workerClient),
		Description: "The worker that `serve --worker` runs.",
		Scopes:      []string{"queue:claim-work:local/*", "queue:worker-id:local/*"},
	})
}

// inClear is a secret as it is, "" if it is not set.
func inClear(s *config.Secret) string {
	if s == nil {
		return ""
	}
	return string(*s)
}
