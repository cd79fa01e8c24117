package cli

import (
	"errors"
	"fmt"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
)

type taskLogCommand struct {
	oneTask
	RunID  *int `name:"run" placeholder:"N" help:"The run, counted from 0 (default: the latest)."`
	Follow bool `short:"f" help:"Print the log as it grows, until the run is over."`
	remote
}

func (*taskLogCommand) Help() string {
	return "With --json each line of the log is a JSON document of its own.\n\n" + examples(
		"taskcluster task log fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster task log --follow fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster task log --run 0 fN1SbArXTPSVFNUvaOlinQ")
}

// pendingPause is how long a follower waits for a task to start.
const pendingPause = time.Second

// Run prints a log.
func (c *taskLogCommand) Run(s *session) error {
	if c.RunID != nil && *c.RunID < 0 {
		return usageError("runs are counted from 0")
	}
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	runID, running, err := c.findRun(s, q)
	if err != nil {
		return err
	}
	w := s.stdout
	switch {
	case c.JSON:
		l := &lines{emit: func(line []byte) {
			writeJSON(s.stdout, logLine{Type: "log", TaskID: string(c.TaskID), RunID: runID, Line: string(line)}, "")
		}}
		defer l.close()
		w = l
	case s.terminal:
		t := &tame{w: s.stdout}
		defer t.close()
		w = t
	}
	reader := &logReader{queue: q, http: newArtifactClient(), sleep: s.sleep}
	if c.Follow {
		err = reader.follow(s.ctx, string(c.TaskID), runID, w)
	} else {
		err = reader.present(s.ctx, string(c.TaskID), runID, !running, w)
	}
	if errors.Is(err, errQuiet) {
		if running {
			fmt.Fprintf(s.stderr, "The task is still running; --follow prints the rest.\n")
		} else {
			fmt.Fprintf(s.stderr, "The worker has not ended this log yet.\n")
		}
		return nil
	}
	if client.IsNotFound(err) || errors.Is(err, errNoLog) {
		return fmt.Errorf("run %d of %s has no log", runID, c.TaskID)
	}
	return err
}

// findRun returns the run whose log is wanted, and whether it is running. A
// follower waits until there is one that has begun.
func (c *taskLogCommand) findRun(s *session, q *queue.Client) (runID int, running bool, err error) {
	for waiting := false; ; {
		reply, err := statusOf(s.ctx, q, string(c.TaskID))
		if err != nil {
			return 0, false, err
		}
		task := &reply.Status
		runID := len(task.Runs) - 1
		if c.RunID != nil {
			runID = *c.RunID
		}
		there := runID >= 0 && runID < len(task.Runs)
		if !there && resolved(task.State) {
			return 0, false, fmt.Errorf("%s has no run %d: it has %d", c.TaskID, max(runID, 0), len(task.Runs))
		}
		state := "unscheduled"
		if there {
			state = task.Runs[runID].State
		}
		now := fmt.Sprintf("%s is %s and has no log yet", c.TaskID, state)
		if !there && len(task.Runs) > 0 {
			now = fmt.Sprintf("%s has no run %d yet: it has %d", c.TaskID, runID, len(task.Runs))
		}
		if state == "running" || resolved(state) {
			return runID, state == "running", nil
		}
		if !c.Follow {
			return 0, false, fmt.Errorf("%s; --follow waits for it", now)
		}
		if !waiting {
			waiting = true
			fmt.Fprintf(s.stderr, "%s; waiting for it to start.\n", now)
		}
		if err := s.sleep(s.ctx, pendingPause); err != nil {
			return 0, false, err
		}
	}
}
