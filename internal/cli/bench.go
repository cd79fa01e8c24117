package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"taskcluster/internal/bench"
)

type benchCommand struct {
	remote
	Self        bool     `help:"Start a deployment of its own and measure that, also how fast it starts."`
	PostgresURL string   `name:"postgres-url" placeholder:"URL" help:"With --self: use this PostgreSQL database, a schema of its own for the time being."`
	Nodes       int      `default:"1" placeholder:"N" help:"With --postgres-url: so many processes share the database (default: ${default})."`
	Dir         string   `placeholder:"DIR" help:"With --self: where its data goes for the time being (default: the system's directory for temporary files)."`
	Clients     int      `default:"32" placeholder:"N" help:"Parallel connections (default: ${default})."`
	Parked      int      `default:"1000" placeholder:"N" help:"Workers that wait for tasks in the last part (default: ${default})."`
	Subscribers int      `default:"10000" placeholder:"N" help:"Connections in the parts sse and websocket, as far as open files allow (default: ${default})."`
	Depth       int      `default:"100000" placeholder:"N" help:"Tasks that wait in the part about long queues (default: ${default})."`
	Artifact    int64    `default:"268435456" placeholder:"BYTES" help:"Size of the artifact that is uploaded and downloaded (default: ${default})."`
	Only        []string `placeholder:"PARTS" help:"Measure these parts only, separated by commas."`
	Runs        int      `default:"1" placeholder:"N" help:"Measure so often, with --self anew each time, and report the medians (default: ${default})."`
	Duration    span     `default:"5s" placeholder:"SPAN" help:"Time for each part (default: ${default})."`
}

func (*benchCommand) Help() string {
	return `Measures how many tasks a deployment creates, hands out and resolves per second,
how long each call takes, what it costs the server, how soon a waiting worker is
woken, what long queues and large groups cost, and how fast artifacts come and go.
The report is JSON. --only repeats parts of it:
` + strings.Join(bench.Parts()[:8], ", ") + ",\n" + strings.Join(bench.Parts()[8:], ", ") + `.

Tasks are created in the task queues bench/… of the deployment and stay there until
they expire: measure a deployment for that purpose, or use --self. The generator
shares the machine; the load average is in the report. With --postgres-url so
does the database, if it runs here: give it durable settings (fsync=on).

` + examples("taskcluster bench --self", "taskcluster bench --clients 128 --duration 10s", "taskcluster bench --self --only status,group", "taskcluster bench --self --only depth --depth 1000000",
		"taskcluster bench --self --nodes 2 --postgres-url postgres://bench@localhost/bench")
}

// Run measures and prints the report.
func (c *benchCommand) Run(s *session) error {
	if c.Clients < 1 || c.Parked < 1 || c.Depth < 1 || c.Subscribers < 1 || c.Artifact < 1 || c.Runs < 1 || c.Duration < span(time.Second) {
		return usageError("--clients, --parked, --depth, --subscribers, --artifact and --runs must be at least 1, --duration at least 1s")
	}
	if c.PostgresURL != "" && !c.Self || c.Nodes < 1 || c.Nodes > 1 && c.PostgresURL == "" {
		return usageError("--postgres-url needs --self, --nodes at least 1 and --postgres-url")
	}
	for _, name := range c.Only {
		if !slices.Contains(bench.Parts(), name) {
			return usageError(fmt.Sprintf("--only: there is no part %q; there are %s", name, strings.Join(bench.Parts(), ", ")))
		}
	}
	if slices.Contains(c.Only, bench.StartPart) && !c.Self {
		return usageError("--only " + bench.StartPart + " needs --self")
	}
	o := bench.Options{
		Clients: c.Clients, Parked: c.Parked, Duration: time.Duration(c.Duration),
		Subscribers: c.Subscribers, Depth: c.Depth, Artifact: c.Artifact, Only: c.Only, PostgresURL: c.PostgresURL, Nodes: c.Nodes,
		Progress: func(part string) { fmt.Fprintf(s.stderr, "measuring %s …\n", part) },
	}
	measure := func() (*bench.Report, error) { return bench.Run(s.ctx, o) }
	if c.Self {
		binary, err := os.Executable()
		if err != nil {
			return err
		}
		measure = func() (*bench.Report, error) { return bench.Self(s.ctx, binary, c.Dir, o) }
	} else {
		cfg, err := c.config(s)
		if err != nil {
			return err
		}
		o.RootURL, o.Credentials = cfg.RootURL, cfg.Credentials
	}
	var reports []*bench.Report
	for range c.Runs {
		rep, err := measure()
		if err != nil {
			return err
		}
		reports = append(reports, rep)
	}
	if c.Runs == 1 {
		return s.printJSON(reports[0])
	}
	rep, err := bench.Median(reports)
	if err != nil {
		return err
	}
	return s.printJSON(rep)
}
