package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// onPostgres are the settings of a deployment whose database is at url.
func onPostgres(t *testing.T, url string) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(url+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"TASKCLUSTER_POSTGRES_URL": "file:" + file}
}

// TestPostgres: a deployment keeps in PostgreSQL what it keeps in a file
// otherwise, and finds it again.
func TestPostgres(t *testing.T) {
	dir, env := t.TempDir(), onPostgres(t, testenv.Postgres(t).URL)
	a, err := open(t, settings(t, dir, env))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := asRoot(t, a); len(got) != 1 || got[0] != "*" {
		t.Errorf("root's scopes: %v", got)
	}
	stop(t, a)
	if _, err := os.Stat(filepath.Join(dir, "taskcluster.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a file with a database: %v", err)
	}
	b := started(t, settings(t, dir, env))
	if b.token != a.token {
		t.Error("a restart must keep the root client's token")
	}
	if got := asRoot(t, b); len(got) != 1 {
		t.Errorf("root's scopes after a restart: %v", got)
	}

	if _, err := open(t, settings(t, dir, map[string]string{"TASKCLUSTER_POSTGRES_URL": "postgres://u:s3cret@127.0.0.1:1/x"})); err == nil ||
		!strings.Contains(err.Error(), "127.0.0.1:1") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("nobody is there: %v", err)
	}
}
