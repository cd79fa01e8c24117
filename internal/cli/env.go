package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"taskcluster/client/auth"
)

type envCommand struct {
	DataDir string `name:"data-dir" placeholder:"DIR" help:"Data directory of the deployment (default: TASKCLUSTER_DATA_DIR, or else data)."`
	Check   bool   `help:"Instead of printing settings, try those that clients use now and print the scopes that they have."`
	remote
}

func (*envCommand) Help() string {
	return `Prints the access token of the root client, which may do everything. With
--json it prints an object.

` + examples(
		`eval "$(taskcluster env)"`,
		"taskcluster env --data-dir /var/lib/taskcluster",
		"taskcluster env --check")
}

// Run prints exports or checks what is set.
func (c *envCommand) Run(s *session) error {
	if c.Check {
		return c.check(s)
	}
	if c.RootURL != "" {
		return usageError("--root-url goes with --check; what is printed comes from the data directory")
	}
	dir := c.DataDir
	if dir == "" {
		dir = dataDir(s)
	}
	path := filepath.Join(dir, "root.env")
	found, err := readRootEnv(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s: start a deployment with \"taskcluster serve\", or name its directory with --data-dir", path)
	}
	if err != nil {
		return err
	}
	names := []string{envRootURL, envClientID, envAccessToken}
	if c.JSON {
		return s.printJSON(map[string]string{envRootURL: found[envRootURL], envClientID: found[envClientID], envAccessToken: found[envAccessToken]})
	}
	for _, name := range names {
		if _, err := fmt.Fprintf(s.stdout, "export %s=%s\n", name, shellQuote(found[name])); err != nil {
			return err
		}
	}
	return nil
}

// check asks the deployment which scopes the present credentials have.
func (c *envCommand) check(s *session) error {
	if c.DataDir != "" {
		return usageError("--check tries the settings that clients use; --data-dir is not one of them")
	}
	cfg, err := c.config(s)
	if err != nil {
		return err
	}
	a, err := auth.New(cfg)
	if err != nil {
		return err
	}
	defer a.Close()
	reply, err := a.CurrentScopes(s.ctx)
	if err != nil {
		return err
	}
	if reply.Scopes == nil {
		return errUnexpected
	}
	who := cfg.Credentials.ClientID
	if c.JSON {
		return s.printJSON(map[string]any{"rootUrl": cfg.RootURL, "clientId": who, "scopes": reply.Scopes})
	}
	if who == "" {
		who = "(anonymous)"
	}
	if err := table(s.stdout, [][]string{{"Root URL", cfg.RootURL}, {"Client", who}, {"Scopes", fmt.Sprint(len(reply.Scopes))}}); err != nil {
		return err
	}
	for _, scope := range reply.Scopes {
		fmt.Fprintln(s.stdout, " ", printable(scope))
	}
	return nil
}

// shellQuote makes one word of a value for sh, unless it is one already.
func shellQuote(value string) string {
	plain := strings.IndexFunc(value, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_./:@%+,", c))
	}) < 0
	if plain && value != "" {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}
