package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// TestPulse starts RabbitMQ and a server with the settings of docs/pulse.md, and
// runs its reader.
func TestPulse(t *testing.T) {
	broker := testenv.RabbitMQ(t)
	root := harness.Root(t)
	dir := t.TempDir()
	settings, code := filepath.Join(dir, "settings.yml"), ""
	secrets := []string{}
	for name, text := range map[string]string{"amqp-url": broker.URL, "pulse-management-url": broker.ManagementURL()} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, "file:"+name, "file:"+path)
	}
	for _, b := range blocks(t, filepath.Join(root, "docs", "pulse.md")) {
		switch b.language {
		case "settings":
			if err := os.WriteFile(settings, []byte(strings.NewReplacer(secrets...).Replace(b.text)), 0o600); err != nil {
				t.Fatal(err)
			}
		case "javascript":
			code = b.text
		}
	}
	server := harness.Start(t, harness.Binary(t), t.TempDir(), "--config", settings)
	defer server.Stop()
	// The exchanges are declared a moment after the server answers.
	for start := time.Now(); !strings.Contains(server.Log(), "events are mirrored to RabbitMQ"); time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatalf("the relay does not connect\n%s", server.Log())
		}
	}
	node := exec.Command("timeout", "120", "node", "--input-type=module", "-e", code)
	node.Dir, node.Env = filepath.Dir(modules(t)), server.Env()
	out, err := node.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "the event came" {
		t.Errorf("%v\n%s\n%s", err, out, server.Log())
	}
	if strings.Contains(server.Log(), "guest:guest") || strings.Contains(server.Log(), "amqp://pulse-") {
		t.Error("a password is in the log")
	}
}
