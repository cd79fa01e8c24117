// Package docs runs the examples of the documentation.
package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// block is a fenced piece of code in a document.
type block struct{ place, language, text string }

func blocks(t *testing.T, path string) []block {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out []block
	for n, part := range strings.Split(string(b), "\n```") {
		if n%2 == 0 {
			continue // prose between two blocks
		}
		language, text, _ := strings.Cut(part, "\n")
		out = append(out, block{fmt.Sprintf("%s, block %d", filepath.Base(path), n/2+1), language, text + "\n"})
	}
	return out
}

func TestExamples(t *testing.T) {
	root := testenv.Root(t)
	binary := harness.Binary(t)
	server := harness.Start(t, binary, t.TempDir(), "--worker")
	defer server.Stop()
	ran := map[string]int{}
	run := func(name, file string) {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, status := harness.Run(t, binary, server.Env(), "run", "--follow", "--timeout", "2m", file)
			if status != 0 {
				t.Errorf("exit status %d\n%s%s", status, stdout, stderr)
			}
		})
	}
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(documents, filepath.Join(root, "README.md")) {
		for _, b := range blocks(t, path) {
			ran[b.language]++
			switch b.language {
			case "yaml":
				file := filepath.Join(t.TempDir(), "example.yml")
				if err := os.WriteFile(file, []byte(b.text), 0o644); err != nil {
					t.Fatal(err)
				}
				run(b.place, file)
			case "js":
				javaScript(t, b, server.Env())
			}
		}
	}
	examples, err := filepath.Glob(filepath.Join(root, "examples", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range examples {
		run(filepath.Base(file), file)
	}
	if ran["yaml"] < 3 || ran["js"] < 1 || len(examples) < 1 {
		t.Errorf("too few examples were found: %v and %d files", ran, len(examples))
	}
}

// modules is where the official client and amqplib are installed, for the
// conformance tests.
func modules(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(testenv.Root(t), "test", "conformance")
	installed := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(filepath.Join(installed, "amqplib")); err != nil {
		cmd := exec.Command("npm", "ci", "--silent", "--no-audit", "--no-fund")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
	}
	return installed
}

// javaScript runs a block beside the conformance tests.
func javaScript(t *testing.T, b block, env []string) {
	t.Run(b.place, func(t *testing.T) {
		cmd := exec.Command("node", "--input-type=module", "-e", b.text)
		cmd.Dir, cmd.Env = filepath.Dir(modules(t)), env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
