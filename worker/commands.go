package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/worker/engine"
	"taskcluster/worker/task"
)

// checkRunTime refuses what this worker will not wait for.
func (w *Worker) checkRunTime(r *task.Run) error {
	if limit := w.cfg.MaxTaskRunTime; r.Payload.MaxRunTime > limit {
		return fmt.Errorf("maxRunTime: the task wants %d seconds, this worker allows %d",
			r.Payload.MaxRunTime/time.Second, limit/time.Second)
	}
	return nil
}

// errMaxRunTime ends the commands of a task that runs too long.
var errMaxRunTime = task.Fail(task.Failed, errors.New("Task aborted - max run time exceeded"))

// errDeadline ends a run whose deadline has come: the queue resolves it itself.
var errDeadline = task.Fail(task.Aborted, errors.New("Task aborted - the deadline has passed"))

// limit makes a context that ends at an instant with an error.
func limit(ctx context.Context, c clock.Clock, at clock.Time, cause error) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	due, giveUp := c.After(at)
	go func() {
		select {
		case <-due:
			end(cause)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { giveUp(); end(context.Canceled) }
}

// commands executes the task's commands, one after another, until one fails.
// When it returns, none of the task's processes is left.
func (w *Worker) commands(ctx context.Context, r *task.Run) (err error) {
	ctx, cancel := limit(ctx, w.cfg.Clock, w.cfg.Clock.Now().Add(r.Payload.MaxRunTime), errMaxRunTime)
	defer cancel()
	sandbox, err := w.cfg.Engine.Prepare(ctx, r.Dir)
	if err != nil {
		return err
	}
	env := w.environment(r)
	begin := time.Now()
	r.Log.Infof("=== Task Starting ===")
	defer func() {
		err = errors.Join(err, sandbox.Close())
		r.Log.Infof("=== Task Finished ===")
		r.Log.Infof("Task Duration: %s", time.Since(begin))
	}()
	for i, command := range r.Payload.Command {
		r.Log.Infof("Executing command %d: %s", i, quote(command))
		result, err := sandbox.Execute(ctx, command, env, r.Log)
		if err != nil {
			return err
		}
		if slices.Contains(r.Payload.PurgeOn, result.ExitCode) {
			r.Log.Infof("Exit status %d asks to purge the task's caches; it has none.", result.ExitCode)
		}
		if ctx.Err() != nil {
			summary(r, result, "ABORTED")
			return context.Cause(ctx)
		}
		if result.ExitCode != 0 {
			summary(r, result, "FAILED")
			return exit(r, result.ExitCode)
		}
		summary(r, result, "SUCCEEDED")
	}
	return nil
}

// exit is what the exit status of a command that failed means.
func exit(r *task.Run, status int) error {
	err := fmt.Errorf("exit status %d", status)
	if slices.Contains(r.Payload.RetryOn, status) {
		return task.Fail(task.IntermittentTask, fmt.Errorf("%w, after which the task is to be run again", err))
	}
	return task.Fail(task.Failed, err)
}

// summary writes what log parsers look for after a command.
func summary(r *task.Run, e engine.Result, result string) {
	r.Log.Infof("%12s: %d", "Exit Code", e.ExitCode)
	r.Log.Infof("%12s: %s", "User Time", e.User)
	r.Log.Infof("%12s: %s", "Kernel Time", e.Kernel)
	r.Log.Infof("%12s: %s", "Wall Time", e.Wall)
	r.Log.Infof("%12s: %s", "Result", result)
}

// quote writes a command as one would type it.
func quote(command []string) string {
	words := make([]string, len(command))
	for i, word := range command {
		plain := strings.IndexFunc(word, func(c rune) bool {
			return !strings.ContainsRune("%+,-./:=@_", c) && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
		}) < 0
		if plain && word != "" {
			words[i] = word
		} else {
			words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
