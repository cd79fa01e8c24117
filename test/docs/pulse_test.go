package docs

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// TestPulse starts RabbitMQ and a server with the settings of docs/pulse.md, and
// runs its reader.
func TestPulse(t *testing.T) {
	broker := testenv.RabbitMQ(t)
	server, code := mirroring(t, "pulse.md", map[string]string{"amqp-url": broker.URL, "pulse-management-url": broker.ManagementURL()})
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
