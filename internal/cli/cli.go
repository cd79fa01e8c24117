// Package cli is the command line: one file per command.
//
// Every command keeps these promises. What was asked for goes to stdout,
// everything else to stderr; with --json stdout holds one JSON document, or
// JSON lines where output is followed. An error is one sentence that says what
// to do next. The exit status is 0 for success, 1 for failure, 2 for a command
// that was not understood, 130 after an interrupt. Secrets are printed by
// "env" alone.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/term"
)

// Exit statuses.
const (
	statusOK          = 0
	statusFailed      = 1
	statusUsage       = 2
	statusInterrupted = 130
)

// commands is the tree of commands; kong reads it.
type commands struct {
	Serve      serveCommand      `cmd:"" help:"Run the services, and with --worker a worker too."`
	Worker     workerCommand     `cmd:"" help:"Run a worker that takes tasks from a deployment."`
	Run        runCommand        `cmd:"" help:"Submit a task or a graph of tasks, and watch it."`
	Task       taskCommands      `cmd:"" help:"Look at and change one task."`
	Group      groupCommands     `cmd:"" help:"Look at and cancel a task group."`
	Env        envCommand        `cmd:"" help:"Print the settings that clients need, for the shell."`
	Admin      adminCommands     `cmd:"" help:"Operate a deployment: check, migrate, back up, restore, dead letters."`
	Config     configCommands    `cmd:"" help:"Show the settings of serve."`
	Bench      benchCommand      `cmd:"" help:"Measure a deployment, and print JSON."`
	References referencesCommand `cmd:"" help:"Write the API references and JSON schemas to files."`
	Version    versionCommand    `cmd:"" help:"Print the version."`
	Completion completionCommand `cmd:"" help:"Print a completion script for a shell."`
	Help       helpCommand       `cmd:"" help:"Explain a command, with examples."`
}

const description = `The whole of Taskcluster in one program. To try it out:

    taskcluster serve --worker                      in one terminal
    taskcluster run examples/hello.yml --follow     in another`

// session is what a command works with.
type session struct {
	ctx    context.Context // ends at the first interrupt
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	now    func() time.Time
	sleep  func(ctx context.Context, d time.Duration) error
	parser *kong.Kong

	terminal bool // stdout is one, and must not be steered by what others wrote
}

// exitStatus is an error that has been explained already.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Main runs the command given by args, without the program's name, and returns
// the exit status. The first SIGINT or SIGTERM makes the command end in order,
// a second one ends the program.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	file, ok := stdout.(*os.File)
	return run(args, &session{
		ctx: ctx, stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv,
		now: time.Now, sleep: sleep, terminal: ok && term.IsTerminal(int(file.Fd())),
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// run is Main within a session.
func run(args []string, s *session) int {
	var root commands
	exited := -1
	parser, err := kong.New(&root,
		kong.Name("taskcluster"),
		kong.Description(description),
		kong.Writers(s.stdout, s.stderr),
		kong.Exit(func(status int) { exited = status }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, NoAppDescFormat: true, WrapUpperBound: 100}),
		kong.ValueFormatter(helpValue),
		kong.Help(printHelp),
	)
	if err != nil {
		fmt.Fprintln(s.stderr, "taskcluster:", err)
		return statusFailed
	}
	s.parser = parser
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if len(args) == 1 && args[0] == "--version" {
		args = []string{"version"} // as everybody tries it
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 { // help was asked for and printed
		return exited
	}
	if err != nil {
		return s.usage(args, err)
	}
	err = parsed.Run(s)
	if exited >= 0 {
		return exited
	}
	return s.finish(parsed, err)
}

// usage tells what was not understood.
func (s *session) usage(args []string, err error) int {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "unexpected argument "); ok {
		text = "there is no command " + name
	}
	var command []string
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context.Selected() != nil {
		selected := parse.Context.Selected()
		command = strings.Fields(commandPath(selected))
		if len(selected.Children) == 0 {
			text = err.Error()
		}
	}
	fmt.Fprintln(s.stderr, "taskcluster:", text)
	fmt.Fprintf(s.stderr, "Run \"taskcluster %s\" for help.\n", strings.Join(append([]string{"help"}, command...), " "))
	return statusUsage
}

// finish reports a command's error and returns the exit status.
func (s *session) finish(parsed *kong.Context, err error) int {
	if err == nil {
		return statusOK
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	if bad, ok := errors.AsType[usageError](err); ok {
		return s.usage(parsed.Args, bad)
	}
	if wantsJSON(parsed) {
		s.printJSON(errorDocument(err))
	}
	fmt.Fprintln(s.stderr, "taskcluster:", explain(err))
	if s.ctx.Err() != nil {
		return statusInterrupted
	}
	return statusFailed
}

// usageError is a command that could be read but makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

// wantsJSON reports whether the command has the flag --json set.
func wantsJSON(parsed *kong.Context) bool {
	for _, flag := range parsed.Flags() {
		if flag.Name == "json" {
			set, ok := parsed.FlagValue(flag).(bool)
			return ok && set
		}
	}
	return false
}
