package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "taskcluster-deploy-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "taskcluster")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/taskcluster")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return path, err
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := build(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// binary is the program, built once.
func binary(t *testing.T) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// explain has the program load settings, and returns what it says of them.
func explain(t *testing.T, settings string, env []string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "taskcluster.yml")
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary(t), "config", "explain", "--config", file)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the program refuses the settings: %v\n%s\n%s", err, out, settings)
	}
	return string(out)
}

// TestUnit has systemd read the unit, and look how much is open to it.
func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("NOTE: systemd-analyze is missing: deploy/taskcluster.service was not checked; install systemd")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "taskcluster.service"))
	if err != nil {
		t.Fatal(err)
	}
	const installed = "/usr/local/bin/taskcluster"
	if strings.Count(string(text), installed) != 1 {
		t.Errorf("the unit does not start %s", installed)
	}
	unit := filepath.Join(t.TempDir(), "taskcluster.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(string(text), installed, binary(t), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	// From 0 (nothing is open) to 100.
	if out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=20", unit).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
