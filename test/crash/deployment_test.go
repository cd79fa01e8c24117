// Package crash mistreats deployments under load, and looks for anything that
// they had promised and lost. How often is set by flags; `make soak` raises them.
package crash

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/test/crash/workload"
	"taskcluster/test/harness"
)

var (
	kills        = flag.Int("kills", 8, "how often a process is killed, in each of the tests that do so")
	restarts     = flag.Int("restarts", 4, "how often PostgreSQL is restarted")
	cuts         = flag.Int("cuts", 8, "how often the connection to PostgreSQL is cut")
	brokerFaults = flag.Int("broker-faults", 3, "how many faults of RabbitMQ, and of the way to it")
	fills        = flag.Int("fills", 2, "how often the disk is filled")
	jumps        = flag.Int("jumps", 4, "how often the clock is set, forward or back")
	tally        = flag.String("tally", "", "a file that counts are added to, for scripts/soak")
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

// binary is the program, which all tests but that of the clock share.
var binary string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "taskcluster-crash-")
	if err == nil {
		defer os.RemoveAll(dir)
		binary, err = harness.Build("../..", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// deployment is nodes under load, on one database.
type deployment struct {
	t       *testing.T
	binary  string
	urls    []string // of PostgreSQL, as each node is told; empty for SQLite
	args    []string
	dirs    []string
	nodes   []*harness.Server // nil: not there
	clocks  []*workload.Clock // of the nodes, where a test sets them
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
	d := plan(t, binary, dirs(t, len(urls)), urls, args...)
	d.startAll()
	return d
}

// dirs are data directories.
func dirs(t *testing.T, n int) (all []string) {
	for range n {
		all = append(all, t.TempDir())
	}
	return all
}

// plan is prepare with given data directories, before a node is started.
func plan(t *testing.T, binary string, dirs, urls []string, args ...string) *deployment {
	t.Helper()
	d := &deployment{t: t, binary: binary, dirs: dirs, urls: urls, ledger: workload.NewLedger(), history: workload.NewHistory(), nodes: make([]*harness.Server, len(urls))}
	d.args = append([]string{"--log-level", "error", "--claim-timeout", claimTimeout.String()}, args...)
	return d
}

func (d *deployment) startAll() {
	d.t.Helper()
	for i := range d.urls {
		if i > 0 {
			harness.Join(d.t, d.dirs[0], d.dirs[i])
		}
		d.start(i)
	}
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
	if d.clocks != nil {
		d.t.Setenv("CRASH_CLOCK", d.clocks[i].Path())
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
	for i, s := range d.nodes {
		if s != nil {
			nodes = append(nodes, d.node(i))
		}
	}
	return nodes
}

// node is how clients reach a node that is there.
func (d *deployment) node(i int) workload.Node {
	s := d.nodes[i]
	n := workload.Node{RootURL: s.RootURL, Credentials: credentials(s)}
	if d.clocks != nil {
		n.Clock = d.clocks[i]
	}
	return n
}

func credentials(s *harness.Server) client.Credentials {
	return client.Credentials{ClientID: s.ClientID, AccessToken: s.AccessToken}
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
	if err := d.ledger.Verify(d.t.Context(), d.node(i)); err != nil {
		d.fatal("%v", err)
	}
	d.promised()
}

func (d *deployment) report(problems []string) {
	d.t.Helper()
	tell(d.t, "broken", len(problems))
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
	tell(d.t, "counts", counts.Acknowledged, counts.Refused, counts.Unavailable+counts.Unknown, counts.Tasks, counts.Claims, d.history.Events, d.history.Repeated)
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
		t.Run(fmt.Sprintf("%d-%d", doneBefore+1, doneBefore+n), func(t *testing.T) {
			defer tellTrials(t, n, time.Now())
			f(t, n)
		})
		fmt.Fprintf(os.Stderr, "%s: %d of %d after %v\n", t.Name(), doneBefore+n, trials, time.Since(began).Round(time.Second))
	}
}

// tellTrials adds to the tally how many trials there were, and for how long.
func tellTrials(t *testing.T, n int, began time.Time) {
	t.Helper()
	tell(t, "trials", n, int(time.Since(began).Seconds()))
}

// tell adds numbers to the tally, under the name of the test without its rounds.
func tell(t *testing.T, what string, numbers ...int) {
	t.Helper()
	if *tally == "" {
		return
	}
	f, err := os.OpenFile(*tally, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fmt.Fprintln(f, what, round.ReplaceAllString(t.Name(), ""), strings.Trim(fmt.Sprint(numbers), "[]"))
}

var round = regexp.MustCompile(`/\d+-\d+$`)
