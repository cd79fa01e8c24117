package testenv

import (
	"os"
	"path/filepath"
	"testing"
)

// Root is the top of the checkout.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("go.mod is nowhere above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// Shared is the path of a file or folder of the reference data that stands beside
// the checkout. Without it the test is skipped, by a note.
func Shared(t testing.TB, path string) string {
	t.Helper()
	path = filepath.Join("..", "shared", filepath.FromSlash(path))
	full := filepath.Join(Root(t), path)
	if _, err := os.Stat(full); err != nil {
		t.Skipf("NOTE: %s is missing: there was no comparison with the reference data", path)
	}
	return full
}
