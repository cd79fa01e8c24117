package crash

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/internal/testenv"
	"taskcluster/test/crash/workload"
)

// TestBrokerFaults: RabbitMQ is killed, stopped, cut off and out of reach while
// two nodes are under load, one of which is killed as well. The API goes on as
// ever, and who reads at the broker is given every event, none before an earlier
// one; events come again after a fault, and at no other time.
func TestBrokerFaults(t *testing.T) {
	rounds(t, *brokerFaults, func(t *testing.T, trials int) {
		m := newMirrored(t, binary)
		m.work()
		var calm []workload.Calm
		for trial := range trials {
			m.busy(100 + rand.IntN(200))
			m.fault(trial)
			c := workload.Calm{From: m.mark()}
			m.busy(100)
			c.To = m.mark()
			calm = append(calm, c)
		}
		m.load.Stop()
		last := m.mark()
		m.readEvents()
		repeated, problems := m.reader.Check(m.history, m.first, last, calm)
		if len(problems) > 0 {
			m.report(problems)
		}
		t.Logf("%d events were read at the broker, %d of them again", m.history.Events, repeated)
		m.finish()
	})
}

// mirrored is two nodes that mirror their events to RabbitMQ, and somebody who
// reads them there.
type mirrored struct {
	*deployment
	broker *testenv.RabbitMQServer
	proxy  *testenv.Proxy // between the nodes and the broker
	reader *workload.Reader
	marks  int
	first  string // the first mark
}

func newMirrored(t *testing.T, binary string) *mirrored {
	t.Helper()
	m := &mirrored{broker: testenv.RabbitMQ(t)}
	m.proxy = testenv.StartProxy(t, m.broker.Addr)
	file := filepath.Join(t.TempDir(), "amqp-url")
	if err := os.WriteFile(file, []byte("amqp://guest:guest@"+m.proxy.Addr+"/"), 0o600); err != nil {
		t.Fatal(err)
	}
	url := testenv.Postgres(t).URL
	m.deployment = prepare(t, binary, []string{url, url}, "--amqp-url", "file:"+file)
	m.reader = m.read()
	t.Cleanup(m.reader.Stop)
	m.first = m.mark()
	return m
}

// read starts the reader as soon as a node has declared its exchanges.
func (m *mirrored) read() *workload.Reader {
	m.t.Helper()
	names := exchanges(m.t, m.nodes[0].RootURL)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		r, err := workload.StartReader(m.broker.URL, names)
		if err == nil {
			return r
		}
		if time.Now().After(deadline) {
			m.fatal("the exchanges cannot be read: %v", err)
		}
	}
}

// exchanges are all that the deployment publishes.
func exchanges(t *testing.T, rootURL string) (names []string) {
	t.Helper()
	get := func(url string, v any) {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
		}
	}
	var manifest struct{ References []string }
	get(rootURL+"/references/manifest.json", &manifest)
	for _, url := range manifest.References {
		if !strings.HasSuffix(url, "/exchanges.json") {
			continue
		}
		var ref struct {
			ExchangePrefix string
			Entries        []struct{ Exchange string }
		}
		get(url, &ref)
		for _, e := range ref.Entries {
			names = append(names, ref.ExchangePrefix+e.Exchange)
		}
	}
	if len(names) < 10 {
		t.Fatalf("the deployment publishes only %q", names)
	}
	return names
}

// mark has an event published, and waits until it is read at the broker. What
// was published before has then arrived.
func (m *mirrored) mark() (clientID string) {
	m.t.Helper()
	m.marks++
	clientID = fmt.Sprintf("mark/%d", m.marks)
	deadline := time.Now().Add(2 * time.Minute)
	expire := func(what string) {
		m.t.Helper()
		if time.Now().After(deadline) {
			m.fatal("%s was not %s within two minutes", clientID, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for {
		n := m.up()[0]
		a, err := auth.New(client.Config{RootURL: n.RootURL, Credentials: n.Credentials, Retries: -1})
		if err != nil {
			m.t.Fatal(err)
		}
		_, err = a.CreateClient(m.t.Context(), clientID, &auth.CreateClientRequest{Description: "a mark", Expires: client.At(time.Now().Add(time.Hour))})
		a.Close()
		if err == nil {
			break
		}
		expire("created")
	}
	for !m.reader.Arrived(clientID) {
		expire("read")
	}
	return clientID
}

// fault is the next thing that happens, and is over when it returns.
func (m *mirrored) fault(n int) {
	m.t.Helper()
	do := func(err error) {
		m.t.Helper()
		if err != nil {
			m.fatal("%v", err)
		}
	}
	switch n % 6 {
	case 0:
		do(m.broker.Kill())
		m.busy(50)
		do(m.broker.Start())
	case 1: // shorter than it takes to be noticed
		m.proxy.Partition(true)
		time.Sleep(time.Second)
		m.busy(50)
		m.proxy.Partition(false)
	case 2: // perhaps the one that mirrors
		victim := n / 6 % 2
		m.kill(victim)
		m.load.SetNodes(m.up()...)
		m.busy(50)
		m.start(victim)
		m.load.SetNodes(m.up()...)
	case 3: // a message is on its way to the broker, or its confirm back
		loss := []testenv.Loss{testenv.Before, testenv.After}[rand.IntN(2)]
		select {
		case <-m.proxy.CutAt("exchange/taskcluster-queue/v1/", 0, loss):
		case <-time.After(time.Minute):
			m.fatal("nothing was published within a minute")
		}
	case 4:
		do(m.broker.Shutdown())
		m.busy(50)
		do(m.broker.Start())
	case 5:
		m.proxy.Partition(true)
		time.Sleep(*pause)
		m.busy(50)
		m.proxy.Partition(false)
	}
}
