package methods

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"taskcluster/internal/testenv"
)

// rabbit is the broker of all deployments here, whose users they lend.
var rabbit *testenv.RabbitMQServer

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if rabbit, err = testenv.StartRabbitMQ(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		code := m.Run()
		if err := rabbit.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// withBroker are settings by which a deployment lends users of the broker, and
// takes contacts. No queue becomes so long that a mail is due, so that there is no
// mail server.
func withBroker(t *testing.T) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "management")
	if err := os.WriteFile(file, []byte(rabbit.ManagementURL()), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"--pulse-management-url", "file:" + file, "--pulse-amqp-url", "amqp://" + rabbit.Addr,
		"--smtp-url", "smtp://127.0.0.1:1", "--mail-from", "ci@example.com",
	}
}
