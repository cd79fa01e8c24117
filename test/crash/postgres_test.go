package crash

import (
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// TestPostgresRestarted: PostgreSQL goes away under load, in order or at once,
// and comes back. Callers are told to try again; the process recovers by itself.
func TestPostgresRestarted(t *testing.T) {
	binary := harness.Binary(t)
	rounds(t, *restarts, func(t *testing.T, trials int) {
		server, err := testenv.StartPostgres()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
		})
		d := deploy(t, binary, server.URL)
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
			d.busy(50)
			d.verify(0)
		}
		d.busy(200)
		d.finish()
	})
}

// TestConnectionCut: the connection to PostgreSQL breaks in the middle of a
// transaction, or while it is committed, so that nobody can tell at first
// whether it was.
func TestConnectionCut(t *testing.T) {
	binary := harness.Binary(t)
	rounds(t, *cuts, func(t *testing.T, trials int) {
		behind, err := url.Parse(testenv.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		proxy := testenv.StartProxy(t, behind.Host)
		through := *behind
		through.Host = proxy.Addr
		d := deploy(t, binary, through.String())
		for trial := range trials {
			d.busy(50 + rand.IntN(100))
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
			d.busy(50)
			d.verify(0)
		}
		d.busy(100)
		d.finish()
	})
}
