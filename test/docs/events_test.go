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

// TestEvents starts RabbitMQ and a server with the settings of docs/events.md,
// and runs its reader, whose library is the one that npm has.
func TestEvents(t *testing.T) {
	broker := testenv.RabbitMQ(t)
	root := harness.Root(t)
	dir := t.TempDir()
	secret, settings := filepath.Join(dir, "amqp-url"), filepath.Join(dir, "settings.yml")
	if err := os.WriteFile(secret, []byte(broker.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	document := blocks(t, filepath.Join(root, "docs", "events.md"))
	code := ""
	for _, b := range document {
		switch b.language {
		case "settings":
			text := strings.ReplaceAll(b.text, "file:amqp-url", "file:"+secret)
			if err := os.WriteFile(settings, []byte(text), 0o600); err != nil {
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
	node.Dir, node.Env = filepath.Dir(modules(t)), append(server.Env(), "AMQP_URL="+broker.URL)
	out, err := node.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "task-defined task-pending") {
		t.Errorf("%v\n%s\n%s", err, out, server.Log())
	}
	if strings.Contains(server.Log(), "guest:guest") {
		t.Error("the password is in the log")
	}
}
