package worker

import (
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
// then removes what a worker that crashed left there.
func (w *Worker) prepareDir() (unlock func(), err error) {
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
		if err := removeAll(filepath.Join(w.cfg.TasksDir, e.Name())); err != nil {
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
