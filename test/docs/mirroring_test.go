package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// mirroring starts a server with the settings of a page below docs/, in which
// secrets, by the file that the page names, have the texts given here. It returns
// when events are mirrored to RabbitMQ, with the page's JavaScript.
func mirroring(t *testing.T, page string, secrets map[string]string) (server *harness.Server, code string) {
	t.Helper()
	dir := t.TempDir()
	settings, paths := filepath.Join(dir, "settings.yml"), []string{}
	for name, text := range secrets {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, "file:"+name, "file:"+path)
	}
	for _, b := range blocks(t, filepath.Join(testenv.Root(t), "docs", page)) {
		switch b.language {
		case "settings":
			if err := os.WriteFile(settings, []byte(strings.NewReplacer(paths...).Replace(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
		case "javascript":
			code = b.text
		}
	}
	server = harness.Start(t, harness.Binary(t), t.TempDir(), "--config", settings)
	t.Cleanup(server.Stop)
	// The exchanges are declared a moment after the server answers.
	for start := time.Now(); !strings.Contains(server.Log(), "events are mirrored to RabbitMQ"); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("the relay does not connect\n%s", server.Log())
		}
	}
	return server, code
}
