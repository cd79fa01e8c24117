package worker_test

import (
	"path/filepath"
	"syscall"
	"testing"

	"taskcluster/internal/clock"
	"taskcluster/worker"
)

// A task that fills the disk is resolved as resource-unavailable, and as much
// of its log as there was room for is kept.
func TestDiskFull(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("NOTE: a small disk cannot be mounted here (this takes root): %v", err)
	}
	q := newQueue(t, clock.Real{})
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	start(t, q, func(c *worker.Config) { c.TasksDir = filepath.Join(disk, "tasks") })
	task := q.add(sh("echo begin; head -c 700000 /dev/zero > big; head -c 2000000 /dev/urandom | base64"))
	q.resolved(task, "exception/resource-unavailable")
	q.until("log", func() bool { a := task.artifacts["public/logs/live.log"]; return a != nil && a.StorageType == "link" })
	log, _ := q.stored(task, "public/logs/live_backing.log")
	contains(t, log, "begin\n", "[taskcluster:error] the log could not be written", "no space left")
	// The worker goes on.
	q.resolved(q.add(sh("true")), "completed")
}
