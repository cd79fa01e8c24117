// Package crash mistreats deployments under load, and looks for anything that
// they had promised and lost. How often is set by flags; `make soak` raises them.
package crash

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/test/crash/workload"
	"taskcluster/test/harness"
)

var (
	kills        = flag.Int("kills", 12, "how often a process is killed, in each of the tests that do so")
	restarts     = flag.Int("restarts", 4, "how often PostgreSQL is restarted")
	cuts         = flag.Int("cuts", 9, "how often the connection to PostgreSQL is cut")
	brokerFaults = flag.Int("broker-faults", 4, "how many faults of RabbitMQ, and of the way to it")
	fills        = flag.Int("fills", 2, "how often the disk is filled")
	pause        = flag.Duration("pause", 8*time.Second, "how long a process stands still")
)

const (
	// lease is the promise: what a node had in hand when it went away is not
	// delayed by more.
	lease = 15 * time.Second
	// claimTimeout is so short that claims expire during a test.
	claimTimeout = 4 * time.Second
	// clients is how many create tasks, and how many work on them.
	clients = 6
)

// deployment is nodes under load, on one database.
type deployment struct {
	t       *testing.T
	binary  string
	urls    []string // of PostgreSQL, as each node is told; empty for SQLite
	args    []string
	dirs    []string
	nodes   []*harness.Server // nil: not there
	ledger  *workload.Ledger
	history *workload.History
	load    *workload.Load // once they work
	foreign []string       // tasks that are not the load's
}

// deploy starts a node for each url, and a load on them. The urls lead to the
// same PostgreSQL; a single empty one stands for SQLite.
func deploy(t *testing.T, binary string, urls ...string) *deployment {
	t.Helper()
	d := prepare(t, binary, urls)
	d.work()
	return d
}

// prepare is deploy without a load, and with further arguments of the nodes.
func prepare(t *testing.T, binary string, urls []string, args ...string) *deployment {
	t.Helper()
	var dirs []string
	for range urls {
		dirs = append(dirs, t.TempDir())
	}
	return prepareIn(t, binary, dirs, urls, args...)
}

// prepareIn is prepare with given data directories.
func prepareIn(t *testing.T, binary string, dirs, urls []string, args ...string) *deployment {
	t.Helper()
	d := &deployment{t: t, binary: binary, dirs: dirs, urls: urls, ledger: workload.NewLedger(), history: workload.NewHistory(), nodes: make([]*harness.Server, len(urls))}
	d.args = append([]string{"--log-level", "error", "--claim-timeout", claimTimeout.String()}, args...)
	for i := range urls {
		if i > 0 {
			harness.Join(t, d.dirs[0], d.dirs[i])
		}
		d.start(i)
	}
	return d
}

// work sets clients to work on the nodes.
func (d *deployment) work() {
	d.load = workload.Start(d.ledger, "w", clients, d.up()...)
	d.t.Cleanup(d.load.Stop)
}

func (d *deployment) start(i int) {
	d.t.Helper()
	args := d.args
	if url := d.urls[i]; url != "" {
		file := filepath.Join(d.dirs[i], "postgres-url")
		if err := os.WriteFile(file, []byte(url), 0o600); err != nil {
			d.t.Fatal(err)
		}
		args = append(slices.Clip(args), "--postgres-url", "file:"+file)
	}
	d.nodes[i] = harness.Start(d.t, d.binary, d.dirs[i], args...)
}

// kill ends a node as kill -9 does.
func (d *deployment) kill(i int) {
	d.nodes[i].Kill()
	d.nodes[i] = nil
}

// up are the nodes that are there.
func (d *deployment) up() (nodes []workload.Node) {
	for _, s := range d.nodes {
		if s != nil {
			nodes = append(nodes, node(s))
		}
	}
	return nodes
}

func node(s *harness.Server) workload.Node {
	return workload.Node{RootURL: s.RootURL, Credentials: client.Credentials{ClientID: s.ClientID, AccessToken: s.AccessToken}}
}

// busy waits until so many more calls were acknowledged.
func (d *deployment) busy(calls int) {
	d.t.Helper()
	for from, deadline := d.ledger.Counts().Acknowledged, time.Now().Add(time.Minute); d.ledger.Counts().Acknowledged < from+calls; time.Sleep(5 * time.Millisecond) {
		d.promised()
		if time.Now().After(deadline) {
			d.fatal("only %d calls were acknowledged within a minute: %s", d.ledger.Counts().Acknowledged-from, d.ledger.Counts())
		}
	}
}

// promised ends the test at the first broken promise.
func (d *deployment) promised() {
	d.t.Helper()
	if problems := d.ledger.Problems(); len(problems) > 0 {
		d.report(problems)
	}
}

// verify asks a node for all that was acknowledged.
func (d *deployment) verify(i int) {
	d.t.Helper()
	if err := d.ledger.Verify(d.t.Context(), node(d.nodes[i])); err != nil {
		d.fatal("%v", err)
	}
	d.promised()
}

func (d *deployment) report(problems []string) {
	d.t.Helper()
	for _, p := range problems[:min(len(problems), 20)] {
		d.t.Error(p)
	}
	d.fatal("%d broken promises", len(problems))
}

func (d *deployment) fatal(format string, args ...any) {
	d.t.Helper()
	d.load.Stop()
	for i, s := range d.nodes {
		if s != nil {
			d.t.Logf("node %d:\n%s", i, s.Log())
		}
	}
	d.t.Fatalf(format, args...)
}

// finish ends the load, has everything worked through, and compares all that
// was acknowledged with what is there and with the events.
func (d *deployment) finish() {
	d.t.Helper()
	d.load.Stop()
	d.promised()
	if err := d.ledger.Settle(d.t.Context(), d.up()[0]); err != nil {
		d.fatal("%v", err)
	}
	d.readEvents()
	d.history.Forget(d.foreign...)
	problems, err := d.ledger.Check(d.t.Context(), d.up()[0], d.history)
	if err != nil {
		d.fatal("%v", err)
	}
	if len(problems) > 0 {
		d.report(problems)
	}
	for i, s := range d.nodes {
		if s != nil {
			s.Stop()
			d.nodes[i] = nil
		}
	}
	counts := d.ledger.Counts()
	if counts.Claims == 0 || counts.Named == 0 || counts.Resolutions == 0 || counts.Artifacts == 0 || counts.Sealed == 0 || counts.Cancelled == 0 {
		d.t.Errorf("hardly anything was done: %s", counts)
	}
	d.t.Logf("%s; %d events, %d of them repetitions; late at most: claims %v, deadlines %v; nothing was lost",
		counts, d.history.Events, d.history.Repeated, d.history.LateExpiry.Round(time.Millisecond), d.history.LateDeadline.Round(time.Millisecond))
}

// readEvents has the history follow the log to its end. A file belongs to one
// process, so the node is stopped for it.
func (d *deployment) readEvents() {
	d.t.Helper()
	var err error
	if url := d.urls[len(d.urls)-1]; url != "" {
		err = d.history.ReadPostgres(d.t.Context(), url)
	} else {
		d.nodes[0].Stop()
		err = d.history.ReadSQLite(d.t.Context(), d.dirs[0])
		d.start(0)
	}
	if err != nil {
		d.fatal("%v", err)
	}
}

// rounds calls f for so many trials, a few at a time: each round has a database
// of its own, so that a long test does not spend its time on comparing.
func rounds(t *testing.T, trials int, f func(t *testing.T, trials int)) {
	const most = 25
	began := time.Now()
	for doneBefore := 0; doneBefore < trials && !t.Failed(); doneBefore += most {
		n := min(most, trials-doneBefore)
		t.Run(fmt.Sprintf("%d-%d", doneBefore+1, doneBefore+n), func(t *testing.T) { f(t, n) })
		fmt.Fprintf(os.Stderr, "%s: %d of %d after %v\n", t.Name(), doneBefore+n, trials, time.Since(began).Round(time.Second))
	}
}
