package upgrade

import (
	"os"
	"path/filepath"
	"testing"

	"taskcluster/internal/testenv"
	"taskcluster/test/crash/workload"
	"taskcluster/test/harness"
)

// TestPostgres: the present version is started beside the previous one, on its
// database and under load, and both serve for a while; then the previous one
// goes away, without notice. Nothing is lost, and nothing is done twice.
func TestPostgres(t *testing.T) {
	old, present := build(t, previous(t, "postgres")), harness.Binary(t)
	url := testenv.Postgres(t).URL
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(url), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--log-level", "error", "--claim-timeout", "5s", "--postgres-url", "file:" + file,
		"--root-access-token", "the-root-token-of-both-versions"}
	ledger, history := workload.NewLedger(), workload.NewHistory()
	a := harness.Start(t, old, t.TempDir(), args...)
	defer func() {
		if t.Failed() {
			t.Logf("the previous version:\n%s", a.Log())
		}
	}()
	load := workload.Start(ledger, "w", 6, node(a))
	defer load.Stop()
	busy(t, ledger, 300)

	dir := t.TempDir()
	harness.Join(t, a.DataDir, dir)
	b := harness.Start(t, present, dir, args...)
	defer func() {
		if t.Failed() {
			t.Logf("the present version:\n%s", b.Log())
		}
	}()
	verify(t, ledger, b)
	busy(t, ledger, 100) // the previous one goes on with the tables as they are now
	load.SetNodes(node(a), node(b))
	busy(t, ledger, 1000)
	verify(t, ledger, a)
	verify(t, ledger, b)
	a.Kill()
	load.SetNodes(node(b))
	busy(t, ledger, 300)
	load.Stop()
	if err := ledger.Settle(t.Context(), node(b)); err != nil {
		t.Fatal(err)
	}
	if err := history.ReadPostgres(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	problems, err := ledger.Check(t.Context(), node(b), history)
	if err != nil {
		t.Fatal(err)
	}
	broken(t, problems)
	b.Stop()
	t.Logf("%s, under both versions at once; nothing was lost", ledger.Counts())
}
