package crash

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"taskcluster/internal/testenv"
)

// TestPostgresRestarted: PostgreSQL goes away under load, in order or at once,
// and comes back. Callers are told to try again; one node, and two, recover by
// themselves.
func TestPostgresRestarted(t *testing.T) {
	oneAndTwo(t, *restarts, func(t *testing.T, nodes, trials int) {
		server := testenv.Postgres(t)
		d := deploy(t, binary, slices.Repeat([]string{server.URL}, nodes)...)
		for trial := range trials {
			d.busy(100 + rand.IntN(200))
			end := server.Quit
			if trial%2 == 1 {
				end = server.Kill
			}
			if err := end(); err != nil {
				d.fatal("%v", err)
			}
			time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond) // the outage
			if err := server.Start(); err != nil {
				d.fatal("%v", err)
			}
			d.recovered()
		}
		d.busy(200)
		d.finish()
	})
}

// TestConnectionCut: the connection of a node to PostgreSQL breaks in the middle
// of a transaction, or while it is committed, so that nobody can tell at first
// whether it was. Another node, if there is one, goes on.
func TestConnectionCut(t *testing.T) {
	oneAndTwo(t, *cuts, func(t *testing.T, nodes, trials int) {
		behind, err := url.Parse(testenv.Postgres(t).URL)
		if err != nil {
			t.Fatal(err)
		}
		var proxies []*testenv.Proxy
		var urls []string
		for range nodes {
			proxy := testenv.StartProxy(t, behind.Host)
			through := *behind
			through.Host = proxy.Addr
			proxies, urls = append(proxies, proxy), append(urls, through.String())
		}
		d := deploy(t, binary, urls...)
		for trial := range trials {
			d.busy(50 + rand.IntN(100))
			proxy := proxies[rand.IntN(nodes)]
			var met <-chan struct{}
			switch trial % 4 {
			case 0: // the commit arrives, its answer does not
				met = proxy.CutAt("COMMIT", 0, testenv.After)
			case 1: // the commit does not arrive
				met = proxy.CutAt("COMMIT", 0, testenv.Before)
			case 2: // between two statements
				met = proxy.CutAt("BEGIN ISOLATION LEVEL READ COMMITTED", 1+rand.IntN(4), testenv.Before)
			default: // everywhere at once
				proxy.Cut()
			}
			if met != nil {
				select {
				case <-met:
				case <-time.After(time.Minute):
					d.fatal("no such packet was sent within a minute")
				}
			}
			d.recovered()
		}
		d.busy(100)
		d.finish()
	})
}

// oneAndTwo divides trials among deployments of one node and of two.
func oneAndTwo(t *testing.T, trials int, f func(t *testing.T, nodes, trials int)) {
	t.Run("one node", func(t *testing.T) {
		rounds(t, (trials+1)/2, func(t *testing.T, trials int) { f(t, 1, trials) })
	})
	t.Run("two nodes", func(t *testing.T) {
		rounds(t, trials/2, func(t *testing.T, trials int) { f(t, 2, trials) })
	})
}

// recovered sees that each node by itself works again, and knows what was
// acknowledged.
func (d *deployment) recovered() {
	d.t.Helper()
	for i := range d.nodes {
		d.load.SetNodes(d.node(i))
		d.busy(50)
		d.verify(i)
	}
	d.load.SetNodes(d.up()...)
}
