package cli

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// With --follow, what a task shows waits for its turn: a task is told to have
// ended behind its log, and all of a task that it released comes behind that.

// turn is what a task has to wait for before it shows more: what it showed
// before, and the ends of the tasks that it needs.
func (w *watch) turn(t *watched) []<-chan struct{} {
	turn := []<-chan struct{}{t.shown}
	for _, n := range t.Needs {
		if need := w.byID[n.ID]; need.over() {
			turn = append(turn, need.shown)
		}
	}
	return slices.DeleteFunc(turn, come)
}

// come reports whether a channel is closed; one that is nil counts as closed.
func come(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return c == nil
	}
}

func await(turn []<-chan struct{}) {
	for _, c := range turn {
		<-c
	}
}

// follow reads the logs of the runs that have begun.
func (w *watch) follow(ctx context.Context, t *watched) {
	if w.logs == nil {
		return
	}
	turn := w.turn(t)
	for ; t.followed < len(t.status.Runs); t.followed++ {
		run := &t.status.Runs[t.followed]
		if run.State == "pending" {
			return
		}
		if run.Started.IsZero() {
			continue // it ended without having begun: there is no log
		}
		runID := run.RunID
		out := &output{full: w.fullLog, emit: func(line []byte) { w.display.log(t, runID, line) }}
		t.output, t.outputOf = out, runID
		t.logs.Go(func() {
			await(turn) // before it takes a slot, which those that it waits for may need
			w.logSlots <- struct{}{}
			defer func() { <-w.logSlots }()
			l := &lines{emit: out.line}
			err := w.logs.follow(ctx, t.ID, runID, l)
			l.close()
			if err != nil && ctx.Err() == nil {
				fmt.Fprintf(w.session.stderr, "%s: log: %v\n", printable(t.Name), err)
			}
		})
	}
}

// announce shows a task's new state, a final one behind the end of its log.
func (w *watch) announce(t *watched) {
	event := newStateEvent(t)
	if w.logs == nil {
		w.display.state(event)
		return
	}
	final := resolved(t.status.State)
	turn := w.turn(t)
	if !final && len(turn) == 0 {
		w.display.state(event)
		return
	}
	shown := make(chan struct{})
	t.shown = shown
	w.pending.Go(func() {
		defer close(shown)
		await(turn)
		if final {
			t.logs.Wait()
			event.explain(t.why())
		}
		w.display.state(event)
	})
}

// why is what the log of a task's latest run says about its failure, or "". The
// log must have ended.
func (t *watched) why() string {
	run := latest(t.status)
	if t.output == nil || run == nil || t.outputOf != run.RunID || run.State == "completed" {
		return ""
	}
	why := t.output.why()
	if strings.Contains(why, run.ReasonResolved) {
		return "" // it says no more than that
	}
	return why
}

// output is a task's log for those who want to see what the task prints: the
// worker's own lines are left out, but for warnings and errors. From what it
// leaves out it learns why the task failed.
type output struct {
	full bool // leave nothing out
	emit func(line []byte)

	command, exit, err string
}

// What workers write about the commands. All lines of their own that are
// neither warnings nor errors begin with the prefix and a date.
var (
	workerLine  = []byte("[taskcluster 2")
	errorLine   = []byte("[taskcluster:error] ")
	commandLine = regexp.MustCompile(`^\[[^]]*\] Executing command (\d+): `)
	exitLine    = regexp.MustCompile(`^\[[^]]*\] +Exit Code: (-?\d+)$`)
)

// line takes a line of the log.
func (o *output) line(line []byte) {
	own := bytes.HasPrefix(line, workerLine)
	if own {
		if m := commandLine.FindSubmatch(line); m != nil {
			o.command = string(m[1])
		} else if m := exitLine.FindSubmatch(line); m != nil {
			o.exit = string(m[1])
		}
	} else if text, ok := bytes.CutPrefix(line, errorLine); ok && o.err == "" {
		o.err = clip(string(text), 200)
	}
	if o.full || !own {
		o.emit(line)
	}
}

// why says why the task failed, or "". A negative status is that of a command
// that the worker ended; it says why in an error.
func (o *output) why() string {
	if o.command != "" && o.exit != "" && o.exit != "0" && o.exit[0] != '-' {
		return "command " + o.command + " exited with " + o.exit
	}
	return o.err
}
