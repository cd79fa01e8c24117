package amqp

import (
	"fmt"
	"os"
	"testing"

	"taskcluster/internal/testenv"
)

// server is the broker of all tests here, which end and start it.
var server *testenv.RabbitMQServer

func TestMain(m *testing.M) {
	os.Exit(func() int {
		s, err := testenv.StartRabbitMQ()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		server = s
		code := m.Run()
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}
