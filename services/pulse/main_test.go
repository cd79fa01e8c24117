package pulse

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"taskcluster/internal/store/storetest"
	"taskcluster/internal/testenv"
)

// rabbit is the one broker of these tests; each test has a virtual host of its own.
var rabbit struct {
	once   sync.Once
	server *testenv.RabbitMQServer
	err    error
	mu     sync.Mutex
	last   int
}

func TestMain(m *testing.M) {
	code := storetest.Main(m, "^TestNames$|^TestDescriptions$")
	if rabbit.server != nil {
		if err := rabbit.server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

func startedRabbit(t testing.TB) *testenv.RabbitMQServer {
	t.Helper()
	rabbit.once.Do(func() { rabbit.server, rabbit.err = testenv.StartRabbitMQ() })
	if rabbit.err != nil {
		t.Fatal(rabbit.err)
	}
	return rabbit.server
}
