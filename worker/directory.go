package worker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"taskcluster/worker/task"
)

// dirPrefix begins the names of all that the worker keeps in its directory.
const dirPrefix = "task_"

// prepareDir makes the worker's directory and takes it for this process alone,
// then ends the processes and removes the files that a worker that crashed left
// there: their runs are claimed anew, and must not run twice at once.
func (w *Worker) prepareDir(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(w.cfg.TasksDir, 0o700); err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(w.cfg.TasksDir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if err := lockFile(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("worker: %s is in use by another worker: %w", w.cfg.TasksDir, err)
	}
	entries, err := os.ReadDir(w.cfg.TasksDir)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("worker: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), dirPrefix) {
			continue
		}
		path := filepath.Join(w.cfg.TasksDir, e.Name())
		if e.IsDir() {
			left, err := w.cfg.Engine.Prepare(ctx, path)
			if err == nil {
				err = left.Close()
			}
			if err != nil {
				w.cfg.Log.Warn("what an earlier worker left running cannot be ended", "path", e.Name(), "error", err)
			}
		}
		if err := removeAll(path); err != nil {
			w.cfg.Log.Warn("what an earlier worker left cannot be removed", "path", e.Name(), "error", err)
		}
	}
	return func() { lock.Close() }, nil
}

// discard removes a run's directory and log.
func (w *Worker) discard(r *task.Run) {
	r.Log.Close()
	if err := errors.Join(removeAll(r.Dir), os.Remove(r.LogPath)); err != nil {
		w.cfg.Log.Warn("a task's directory cannot be removed", "taskId", r.TaskID, "runId", r.RunID, "error", err)
	}
}

// removeAll removes a tree, also one in which a task took away the permission
// to write.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if err == nil {
		return nil
	}
	filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if e != nil && e.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	return os.RemoveAll(path)
}
