package docs

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// TestEvents starts RabbitMQ and a server with the settings of docs/events.md,
// and runs its reader, whose library is the one that npm has.
func TestEvents(t *testing.T) {
	broker := testenv.RabbitMQ(t)
	server, code := mirroring(t, "events.md", map[string]string{"amqp-url": broker.URL})
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
