package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"taskcluster/client/queue"
	"taskcluster/internal/cli/graph"
	"taskcluster/internal/cli/relative"
)

type runCommand struct {
	Files             []string `arg:"" name:"file" completion:"files" help:"Task or graph of tasks in YAML; - is stdin."`
	Follow            bool     `short:"f" help:"Print what the tasks print."`
	FullLog           bool     `help:"With --follow, print the worker's lines of the logs too."`
	TaskQueue         string   `placeholder:"QUEUE" default:"local/native" help:"Task queue for tasks that give none (default: ${default})."`
	Group             taskID   `placeholder:"ID" help:"Task group to join (default: a new one)."`
	Timeout           span     `placeholder:"SPAN" help:"How long to watch, such as 30m; the tasks go on after that (default: until the end)."`
	CancelOnInterrupt bool     `help:"Cancel the tasks on an interrupt. Without it they go on."`
	remote
}

func (*runCommand) Help() string {
	return `A file holds one task, or several under "tasks". Only a command is required:

    defaults: {queue: local/native}
    tasks:
      build:
        command: make
        maxRunTime: 10m
        artifacts: {public/app: bin/app}
      test:
        needs: [build]
        command: |
          queue=$TASKCLUSTER_ROOT_URL/api/queue/v1
          curl -sSfLO --compressed $queue/task/$TASK_ID_BUILD/artifacts/public/app
          sh test.sh

A task has: command (a script for sh -e, a list of strings, or a list of such
lists), env, maxRunTime and artifacts (a map of names to paths; a path that ends
with / is a directory), or else payload, the whole of it. Besides: needs,
dependencies, requires, queue, priority, retries, deadline, expires, metadata,
routes, scopes, tags, extra, schedulerId, projectId. Spans of time are written
like "10m" or "1 day 2 hours". TASK_ID_BUILD in the environment is the taskId of
the needed task build; in payload, extra, env and artifacts {$taskId: build} is.

The exit status is 0 only if all tasks completed. A task whose needs failed will
not start; it is reported and not waited for.

Of the logs, --follow leaves out what the worker adds, but for its warnings and
errors; "task log" prints all of it.

` + examples(
		"taskcluster run examples/hello.yml --follow",
		"taskcluster run build.yml test.yml --timeout 1h --json",
		"echo 'command: uname -a' | taskcluster run -f -")
}

// span is a span of time as a flag.
type span time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *span) UnmarshalText(text []byte) error {
	v, err := relative.Parse(string(text))
	if err == nil && v <= 0 {
		err = errors.New("must be longer than nothing")
	}
	*d = span(v)
	return err
}

// maxInput is the size of the largest file that is read.
const maxInput = 32 << 20

// Run submits tasks and watches them.
func (c *runCommand) Run(s *session) error {
	if c.FullLog && !c.Follow {
		return usageError("--full-log needs --follow")
	}
	sources, err := readSources(s.stdin, c.Files)
	if err != nil {
		return err
	}
	q, cfg, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	g, err := graph.Expand(sources, graph.Options{
		Now: s.now(), GroupID: string(c.Group), TaskQueue: c.TaskQueue,
		Owner: owner(s.getenv), Source: cfg.RootURL,
	})
	if err != nil {
		return fmt.Errorf("nothing was submitted:\n%w", err)
	}
	levels := g.Levels()
	if created, err := create(s.ctx, q, levels); err != nil {
		if created == 0 {
			return fmt.Errorf("nothing was submitted: %w", err)
		}
		return fmt.Errorf("%d of %d tasks were submitted: %w\nThey run; \"taskcluster group cancel %s\" cancels them.", created, len(g.Tasks), err, g.GroupID)
	}
	w := newWatch(s, c, q, g)
	w.display.begin(cfg.RootURL, g)
	err = w.run(s.ctx, time.Duration(c.Timeout))
	if err != nil {
		return c.abandoned(s, q, g, err)
	}
	if !w.report(cfg.RootURL) {
		return exitStatus(statusFailed)
	}
	return nil
}

// readSources reads files, or stdin for "-".
func readSources(stdin io.Reader, names []string) ([]graph.Source, error) {
	var sources []graph.Source
	for _, name := range names {
		source := graph.Source{Name: name}
		r := stdin
		if name == "-" {
			source.Name = "stdin"
		} else {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			r = f
		}
		text, err := io.ReadAll(io.LimitReader(r, maxInput+1))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source.Name, err)
		}
		source.Text = text
		sources = append(sources, source)
	}
	return sources, nil
}

// owner is the default of metadata.owner.
func owner(getenv func(string) string) string {
	if mail := getenv("EMAIL"); mail != "" {
		return mail
	}
	user := getenv("USER")
	if user == "" {
		user = "unknown"
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return user + "@" + host
}

// create submits tasks level by level, for the queue refuses a task whose
// dependencies it does not know. It returns how many were created.
func create(ctx context.Context, q *queue.Client, levels [][]*graph.Task) (int, error) {
	created := 0
	for _, level := range levels {
		done := make([]bool, len(level))
		calls, ctx := errgroup.WithContext(ctx)
		calls.SetLimit(parallelCalls)
		for i, t := range level {
			calls.Go(func() error {
				reply, err := q.CreateTask(ctx, t.ID, &t.Definition)
				if err == nil {
					err = checkStatus(t.ID, &reply.Status)
				}
				if err != nil {
					return fmt.Errorf("task %q: %w", printable(t.Name), err)
				}
				done[i] = true
				return nil
			})
		}
		err := calls.Wait()
		for _, ok := range done {
			if ok {
				created++
			}
		}
		if err != nil {
			return created, err
		}
	}
	return created, nil
}

// errTimeout says that --timeout is over.
var errTimeout = errors.New("the time to watch is over")

// abandoned ends a watch that was cut short: the tasks are cancelled if that
// was asked for; otherwise it says how to go on.
func (c *runCommand) abandoned(s *session, q *queue.Client, g *graph.Graph, cause error) error {
	interrupted := s.ctx.Err() != nil
	if interrupted && c.CancelOnInterrupt {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), 30*time.Second)
		defer cancel()
		var ids []string
		for _, t := range g.Tasks {
			ids = append(ids, t.ID)
		}
		cancelled, err := cancelAll(ctx, q, ids)
		fmt.Fprintf(s.stderr, "%s cancelled\n", count(len(cancelled), "task"))
		if err != nil {
			return err
		}
		return exitStatus(statusInterrupted)
	}
	var b strings.Builder
	if interrupted {
		cause = errors.New("no longer watching")
	}
	fmt.Fprintf(&b, "%v; the tasks go on.\n", cause)
	fmt.Fprintf(&b, "  taskcluster group status %s    shows how far they are\n", g.GroupID)
	if len(g.Tasks) == 1 {
		fmt.Fprintf(&b, "  taskcluster task log --follow %s    follows the log\n", g.Tasks[0].ID)
	}
	fmt.Fprintf(&b, "  taskcluster group cancel %s    cancels them", g.GroupID)
	return errors.New(b.String())
}
