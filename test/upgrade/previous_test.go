// Package upgrade runs the previous version of the program, built from the
// repository's history, and the present one, after each other and at once.
// The file previous names the previous version.
package upgrade

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// git runs git in the checkout. A commit that is not there skips the test, and
// says how to get it; scripts/test has tried that before.
func git(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = testenv.Root(t)
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(err.Error() + ": " + string(exit.Stderr))
		}
		t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// previous is the commit of the version before this one, for a database. A
// checkout without it cannot make this comparison: that is said loudly.
func previous(t *testing.T, database string) (commit string) {
	t.Helper()
	text, err := os.ReadFile("previous")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == database {
			commit = f[1]
		}
	}
	if commit == "" {
		t.Fatalf("the file previous names no commit for %s", database)
	}
	cmd := exec.Command("git", "cat-file", "-e", commit+"^{commit}")
	cmd.Dir = testenv.Root(t)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("NOTE: the upgrade is NOT TESTED: commit %s, the previous version, is missing in this checkout (%v %s). "+
			"In a shallow clone `git fetch --unshallow` gets it; an archive without history does not have it.", commit, err, bytes.TrimSpace(out))
	}
	return commit
}

// build builds the program of a commit and returns its path.
func build(t *testing.T, commit string) string {
	t.Helper()
	dir := t.TempDir()
	for files := tar.NewReader(bytes.NewReader(git(t, "archive", commit))); ; {
		h, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeReg:
			var text []byte
			if text, err = io.ReadAll(files); err == nil {
				err = os.WriteFile(path, text, 0o644)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(t.TempDir(), "taskcluster-previous")
	// Without the directory in it, the build cache knows the packages again.
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "./cmd/taskcluster")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", commit, err, out)
	}
	return binary
}
