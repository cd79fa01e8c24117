package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"taskcluster/client/queue"
	"taskcluster/internal/cli/graph"
)

// display shows the progress of a watch. Methods may be called concurrently.
type display interface {
	begin(rootURL string, g *graph.Graph)
	state(e stateEvent)                     // a task's state has changed
	log(t *watched, runID int, line []byte) // a task has logged
	draw(now time.Time)                     // all changes of a moment are in
	moved()                                 // something else has been printed
	close()
}

// stateEvent is a change of state; with --json --follow it is a JSON line.
type stateEvent struct {
	Type   string `json:"type"` // "state"
	Name   string `json:"name"`
	TaskID string `json:"taskId"`
	State  string `json:"state"` // as published, or "blocked"
	Reason string `json:"reason,omitempty"`
	// Message is what the log says about a failure; only with --follow.
	Message string `json:"message,omitempty"`
	RunID   *int   `json:"runId,omitempty"`

	text string // for people
}

func newStateEvent(t *watched) stateEvent {
	e := stateEvent{Type: "state", Name: t.Name, TaskID: t.ID, State: t.state(), text: t.state()}
	switch {
	case t.blockedBy != nil:
		e.Reason = "needs " + t.blockedBy.Name
		e.text = "will not start, because " + t.blockedBy.Name + " did not complete"
	case e.State == "unscheduled" && len(t.Needs) > 0:
		var names []string
		for _, n := range t.Needs {
			names = append(names, n.Name)
		}
		e.text = "waits for " + strings.Join(names, ", ")
	case t.status != nil && len(t.status.Runs) > 0:
		run := latest(t.status)
		e.RunID, e.Reason, e.text = &run.RunID, run.ReasonResolved, progressText(run)
	}
	return e
}

// explain adds what the log says about a failure, if anything.
func (e *stateEvent) explain(why string) {
	if e.Message = why; why != "" {
		e.text += ": " + why
	}
}

// progressText says how far a run is.
func progressText(run *queue.TaskStatusRun) string {
	text := run.State
	if run.ReasonResolved != "" && run.ReasonResolved != run.State {
		text += " (" + run.ReasonResolved + ")"
	}
	if run.RunID > 0 {
		text += fmt.Sprintf(", run %d (%s)", run.RunID, run.ReasonCreated)
	}
	if run.State == "running" {
		text += " on " + run.WorkerGroup + "/" + run.WorkerID
	} else if !run.Resolved.IsZero() && !run.Started.IsZero() {
		text += " after " + short(run.Resolved.Sub(run.Started.Time))
	}
	return text
}

// newDisplay chooses: a block that is redrawn on a terminal, else lines. With
// --json the lines go to stderr, or are JSON lines on stdout with --follow.
func newDisplay(s *session, json, follow bool, tasks []*watched) display {
	switch {
	case json && follow:
		return &jsonLines{w: &locked{w: s.stdout}}
	case json:
		return &plainLines{w: &locked{w: s.stderr}, names: len(tasks) > 1}
	case !follow:
		if f, ok := s.stdout.(*os.File); ok && s.terminal && s.getenv("TERM") != "dumb" {
			return &block{w: f, tasks: tasks, color: s.getenv("NO_COLOR") == "", size: func() (int, int) {
				width, height, err := term.GetSize(int(f.Fd()))
				if err != nil || width < 20 || height < 4 {
					return 80, 24
				}
				return width, height
			}}
		}
	}
	return &plainLines{w: &locked{w: s.stdout}, names: len(tasks) > 1, terminal: s.terminal}
}

// jsonLines prints each event as a line of JSON.
type jsonLines struct{ w io.Writer }

func (d *jsonLines) begin(rootURL string, g *graph.Graph) {
	tasks := make(map[string]string, len(g.Tasks))
	for _, t := range g.Tasks {
		tasks[t.Name] = t.ID
	}
	writeJSON(d.w, map[string]any{"type": "created", "rootUrl": rootURL, "taskGroupId": g.GroupID, "tasks": tasks}, "")
}

func (d *jsonLines) state(e stateEvent) { writeJSON(d.w, e, "") }

func (d *jsonLines) log(t *watched, runID int, line []byte) {
	writeJSON(d.w, logLine{Type: "log", TaskID: t.ID, RunID: runID, Name: t.Name, Line: string(line)}, "")
}

func (d *jsonLines) draw(time.Time) {}
func (d *jsonLines) moved()         {}
func (d *jsonLines) close()         {}

// plainLines prints a line for each change, and log lines as they are (on a
// terminal: tamed), with their task's name in front when there are several.
type plainLines struct {
	w        io.Writer
	names    bool
	terminal bool
}

func (d *plainLines) begin(rootURL string, g *graph.Graph) {
	fmt.Fprintf(d.w, "Task group %s/tasks/groups/%s\n", rootURL, g.GroupID)
	for _, t := range g.Tasks {
		fmt.Fprintf(d.w, "%s: created as %s\n", printable(t.Name), t.ID)
	}
}

func (d *plainLines) state(e stateEvent) {
	fmt.Fprintf(d.w, "%s: %s\n", printable(e.Name), printable(e.text))
}

func (d *plainLines) log(t *watched, _ int, line []byte) {
	var b bytes.Buffer
	head := ""
	if d.names {
		head = "[" + printable(t.Name) + "] "
	}
	if d.terminal {
		line = bytes.ReplaceAll(tamed(line), []byte("\n"), []byte("\n"+head))
	}
	b.WriteString(head)
	b.Write(line)
	b.WriteByte('\n')
	d.w.Write(b.Bytes())
}

func (d *plainLines) draw(time.Time) {}
func (d *plainLines) moved()         {}
func (d *plainLines) close()         {}

// block is a list of all tasks that is redrawn in place. It is used by one
// goroutine: there are no logs beside it.
type block struct {
	w     io.Writer
	tasks []*watched
	size  func() (width, height int)
	color bool
	begun time.Time
	drawn int // lines of the last drawing
}

func (d *block) begin(rootURL string, g *graph.Graph) {
	fmt.Fprintf(d.w, "Task group %s/tasks/groups/%s\n", rootURL, g.GroupID)
}

func (d *block) state(stateEvent)          {}
func (d *block) log(*watched, int, []byte) {}
func (d *block) close()                    {}

// moved makes the next drawing start below what has been printed.
func (d *block) moved() { d.drawn = 0 }

// marks and colours (SGR) of the states.
var marks = map[string]struct{ mark, color string }{
	"unscheduled": {"·", "2"},
	"pending":     {"○", "33"},
	"running":     {"●", "34"},
	"completed":   {"✓", "32"},
	"failed":      {"✗", "31"},
	"exception":   {"✗", "35"},
	"blocked":     {"–", "2"},
}

func (d *block) draw(now time.Time) {
	if d.begun.IsZero() {
		d.begun = now
	}
	width, height := d.size()
	var b bytes.Buffer
	if d.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", d.drawn)
	}
	d.drawn = 0
	line := func(color, text string) {
		text = clip(text, width-1)
		if d.color && color != "" {
			text = "\x1b[" + color + "m" + text + "\x1b[0m"
		}
		b.WriteString("\r" + text + "\x1b[K\n")
		d.drawn++
	}
	names := 0
	for _, t := range d.tasks {
		names = max(names, len([]rune(printable(t.Name))))
	}
	names = min(names, width/2)
	for _, t := range d.shown(height - 2) {
		m := marks[t.state()]
		line(m.color, fmt.Sprintf("%s %-*s  %s", m.mark, names, clip(printable(t.Name), names), printable(blockText(t, now))))
	}
	line("", d.total(now))
	b.WriteString("\x1b[J")
	d.w.Write(b.Bytes())
}

// blockText says what a task does.
func blockText(t *watched, now time.Time) string {
	text := newStateEvent(t).text
	if t.status == nil {
		return text
	}
	if run := latest(t.status); run != nil && run.State == "running" {
		text += " for " + short(now.Sub(run.Started.Time))
	}
	return text
}

// shown picks the tasks that fit, those that need attention first, and keeps
// them in order.
func (d *block) shown(lines int) []*watched {
	if len(d.tasks) <= lines {
		return d.tasks
	}
	picked := make(map[*watched]bool, lines)
	for _, wanted := range []string{"failed", "exception", "running", "pending", "unscheduled", "completed", "blocked"} {
		for _, t := range d.tasks {
			if len(picked) < lines && t.state() == wanted {
				picked[t] = true
			}
		}
	}
	var list []*watched
	for _, t := range d.tasks {
		if picked[t] {
			list = append(list, t)
		}
	}
	return list
}

// total is the last line of the block.
func (d *block) total(now time.Time) string {
	counts := map[string]int{}
	for _, t := range d.tasks {
		counts[t.state()]++
	}
	text := count(len(d.tasks), "task")
	for _, state := range append(states, "blocked") {
		if counts[state] > 0 {
			text += fmt.Sprintf(", %d %s", counts[state], state)
		}
	}
	return text + ", " + short(now.Sub(d.begun))
}

// clip cuts text to a width in characters.
func clip(text string, width int) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	return string(runes[:max(width-1, 0)]) + "…"
}
