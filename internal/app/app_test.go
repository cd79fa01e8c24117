package app

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/internal/config"
	"taskcluster/internal/store"
	"taskcluster/internal/store/keyring"
	"taskcluster/internal/store/sqlite"
)

// settings are those of a deployment in dir on a free port.
func settings(t *testing.T, dir string, env map[string]string) config.Settings {
	t.Helper()
	listen := "127.0.0.1:0"
	s, _, err := config.Load(config.Settings{DataDir: &dir, Listen: &listen}, "", func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, s config.Settings) (*App, error) {
	t.Helper()
	return New(t.Context(), s, slog.New(slog.DiscardHandler))
}

// started runs a deployment until the test ends.
func started(t *testing.T, s config.Settings) *App {
	t.Helper()
	a, err := open(t, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, a) })
	return a
}

func stop(t *testing.T, a *App) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func status(a *App, path string) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", a.RootURL()+path, nil)
	r.RequestURI = path
	a.handler.ServeHTTP(w, r)
	return w.Code
}

// asRoot calls with what root.env says, as a person would.
func asRoot(t *testing.T, a *App) (scopes []string) {
	t.Helper()
	text, err := os.ReadFile(a.RootEnv())
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(a.RootEnv()); info.Mode().Perm() != 0o600 {
		t.Errorf("root.env has mode %v", info.Mode())
	}
	env := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		env[k] = v
	}
	c, err := auth.New(client.Config{RootURL: env["TASKCLUSTER_ROOT_URL"], Credentials: client.Credentials{
		ClientID: env["TASKCLUSTER_CLIENT_ID"], AccessToken: env["TASKCLUSTER_ACCESS_TOKEN"],
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := c.CurrentScopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got.Scopes
}

func TestRootEnv(t *testing.T) {
	dir := t.TempDir()
	a, err := open(t, settings(t, dir, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := asRoot(t, a); len(got) != 1 || got[0] != "*" {
		t.Errorf("root's scopes: %v", got)
	}
	first := a.token
	stop(t, a)
	b, err := open(t, settings(t, dir, nil))
	if err != nil {
		t.Fatal(err)
	}
	if b.token != first {
		t.Error("a restart must keep the root client's token")
	}
	b.close()
	preset := strings.Repeat("preset-", 5)
	c := started(t, settings(t, dir, map[string]string{"TASKCLUSTER_ROOT_ACCESS_TOKEN": preset}))
	if string(c.token) != preset || len(asRoot(t, c)) != 1 {
		t.Error("a preset token must win")
	}
}

func TestPaths(t *testing.T) {
	a := started(t, settings(t, t.TempDir(), nil))
	for path, want := range map[string]int{
		"/": 200, "/page.js": 200, "/recent.json": 200, "/tasks/x": 200, "/nope": 404, "/static/": 404,
		"/metrics": 200, "/robots.txt": 200, "/__version__": 200, "/__heartbeat__": 200,
		"/api/queue/v1/ping": 200, "/api/auth/v1/__heartbeat__": 200, "/api/nope/v1/ping": 404,
		"/references/manifest.json": 200, "/references/queue/v1/exchanges.json": 200, "/references/nope.json": 404,
		"/schemas/common/manifest-v3.json": 200, "/schemas/queue/v1/task.json": 200, "/schemas/nope/x.json": 404,
		"/livelog/x": 404,
		// What a proxy in front denies has no other spelling.
		"/%6detrics": 404, "/metric%73": 404, "/metrics/": 404, "//metrics": 404, "/./metrics": 404, "/%68ealthz": 404,
		"/%61pi/queue/v1/ping": 404, "/%5f_heartbeat__": 404,
	} {
		if got := status(a, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

func TestOnly(t *testing.T) {
	a := started(t, settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_ONLY": "purge-cache"}))
	if status(a, "/api/purge-cache/v1/__heartbeat__") != 200 || status(a, "/api/queue/v1/ping") != 404 {
		t.Error("only purge-cache was to be served")
	}
	a = started(t, settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_ONLY": "auth"}))
	if status(a, "/api/auth/v1/ping") != 200 || status(a, "/api/queue/v1/ping") != 404 || status(a, "/references/queue/v1/api.json") != 404 {
		t.Error("only auth was to be served")
	}
	_, err := open(t, settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_ONLY": "nonsense"}))
	if err == nil || !strings.Contains(err.Error(), `no service "nonsense"`) {
		t.Fatal(err)
	}
	for _, s := range a.services() {
		if !strings.Contains(err.Error(), s.Name) {
			t.Errorf("the refusal names what there is, but not %s: %v", s.Name, err)
		}
		if err := checkOnly(settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_ONLY": s.Name})); err != nil {
			t.Error(err)
		}
	}
	if _, err := open(t, settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_ONLY": "auth", "TASKCLUSTER_WORKER": "true"})); err == nil || !strings.Contains(err.Error(), "needs the queue") {
		t.Error(err)
	}
}

// TestRefusals: what is wrong with the data directory is one clear sentence,
// before anything is served.
func TestRefusals(t *testing.T) {
	good := t.TempDir()
	running := started(t, settings(t, good, nil))
	newer := t.TempDir()
	makeNewer(t, newer)
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	garbled := t.TempDir()
	if a, err := open(t, settings(t, garbled, nil)); err != nil {
		t.Fatal(err)
	} else {
		a.close()
	}
	os.WriteFile(filepath.Join(garbled, "root.env"), []byte("nonsense\n"), 0o600)
	keys := t.TempDir()
	os.WriteFile(filepath.Join(keys, "keys"), []byte("nonsense\n"), 0o600)
	database := t.TempDir()
	os.WriteFile(filepath.Join(database, "taskcluster.db"), []byte(strings.Repeat("not a database", 1000)), 0o600)
	if _, err := keyring.Open(database); err != nil {
		t.Fatal(err)
	}
	keyless := t.TempDir()
	stop(t, started(t, settings(t, keyless, nil)))
	if err := os.Remove(filepath.Join(keyless, "keys")); err != nil {
		t.Fatal(err)
	}
	lost := t.TempDir()
	os.WriteFile(filepath.Join(lost, "root.env"), nil, 0o600)
	for _, c := range []struct {
		name, dir, want string
		env             map[string]string
	}{
		{"locked", good, "in use by another process", nil},
		{"newer", newer, "newer", nil},
		{"not a directory", filepath.Join(file, "x"), "choose another with --data-dir", nil},
		{"not writable", readOnly(t), "cannot be written", nil},
		{"root.env without a token", garbled, "TASKCLUSTER_ACCESS_TOKEN", nil},
		{"database lost", lost, "is missing, although", nil},
		{"broken keys", keys, "keys", nil},
		{"no keys", keyless, "restore it from a backup", nil},
		{"broken database", database, "not a database", nil},
		{"token", t.TempDir(), "22 to 66", map[string]string{"TASKCLUSTER_ROOT_ACCESS_TOKEN": "short"}},
		{"address", t.TempDir(), "does not have the address", map[string]string{"TASKCLUSTER_LISTEN": "192.0.2.1:80"}}, // for documentation: nobody has it
		{"port", t.TempDir(), "another program uses this port", map[string]string{"TASKCLUSTER_LISTEN": running.listener.Addr().String()}},
	} {
		s := settings(t, c.dir, c.env)
		if l := c.env["TASKCLUSTER_LISTEN"]; l != "" {
			s.Listen = &l
		}
		a, err := open(t, s)
		if err == nil {
			a.close()
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(keyless, "keys")); err == nil {
		t.Error("new keys were made, which open nothing")
	}
	if status(running, "/api/queue/v1/ping") != 200 {
		t.Error("the running deployment was disturbed")
	}
}

// makeNewer marks a data directory as written by a later version.
// readOnly is a directory in which no files can be made, not even by root.
func readOnly(t *testing.T) string {
	if runtime.GOOS == "linux" {
		return "/proc/self"
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	return dir
}

func makeNewer(t *testing.T, dir string) {
	t.Helper()
	a, err := open(t, settings(t, dir, nil))
	if err != nil {
		t.Fatal(err)
	}
	a.close()
	s, err := sqlite.Open(t.Context(), filepath.Join(dir, "taskcluster.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	insert := store.SQL(`INSERT INTO store_migrations (component, number, name, checksum, applied) VALUES ('queue', 9999, 'later', 'x', 1)`)
	if err := s.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(insert); return err }); err != nil {
		t.Fatal(err)
	}
}
