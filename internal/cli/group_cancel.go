package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"taskcluster/client"
	"taskcluster/client/queue"
)

type groupCancelCommand struct {
	oneGroup
	Force bool `short:"f" help:"Do not ask."`
	remote
}

func (*groupCancelCommand) Help() string {
	return `Asks before it cancels, unless --force is given. Tasks that are created later
are not cancelled.

` + examples(
		"taskcluster group cancel fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster group cancel --force fN1SbArXTPSVFNUvaOlinQ")
}

// parallelCalls is how many calls a command has under way at once.
const parallelCalls = 16

// Run cancels what is not resolved.
func (c *groupCancelCommand) Run(s *session) error {
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	var ids []string
	for t, err := range c.members(s.ctx, q) {
		if err != nil {
			return err
		}
		if !resolved(t.Status.State) {
			ids = append(ids, t.Status.TaskID)
		}
	}
	if len(ids) > 0 && !c.Force && !s.confirm(fmt.Sprintf("Cancel %d of the group's tasks?", len(ids))) {
		return errors.New("nothing was cancelled; --force cancels without asking")
	}
	cancelled, err := cancelAll(s.ctx, q, ids)
	if c.JSON && err == nil {
		return s.printJSON(map[string]any{"taskGroupId": c.TaskGroupID, "cancelledCount": len(cancelled), "taskIds": cancelled})
	}
	if c.JSON {
		fmt.Fprintf(s.stderr, "%s cancelled\n", count(len(cancelled), "task"))
	} else {
		fmt.Fprintf(s.stdout, "%s cancelled\n", count(len(cancelled), "task"))
	}
	return err
}

// cancelAll cancels tasks in parallel and returns the sorted ids of those that
// were. Tasks that have been resolved meanwhile are left alone; another error
// does not keep it from the rest.
func cancelAll(ctx context.Context, q *queue.Client, ids []string) ([]string, error) {
	cancelled := []string{}
	var (
		mu       sync.Mutex
		problems []error
	)
	var g errgroup.Group
	g.SetLimit(parallelCalls)
	for _, id := range ids {
		g.Go(func() error {
			reply, err := q.CancelTask(ctx, id)
			if err == nil {
				err = checkStatus(id, &reply.Status)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case client.IsConflict(err):
			case err != nil:
				problems = append(problems, err)
			case canceled(&reply.Status):
				cancelled = append(cancelled, id)
			}
			return nil
		})
	}
	g.Wait()
	slices.Sort(cancelled)
	if len(problems) > 0 {
		return cancelled, fmt.Errorf("%s could not be cancelled: %w", count(len(problems), "task"), problems[0])
	}
	return cancelled, nil
}

// confirm asks on stderr; only yes is yes.
func (s *session) confirm(question string) bool {
	fmt.Fprintf(s.stderr, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(s.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true
	}
	return false
}
