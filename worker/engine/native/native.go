// Package native executes commands on the machine itself, as the worker's own
// user: generic-worker calls this engine "insecure". It does not protect the
// worker or other tasks from a task.
package native

import "time"

// Engine implements engine.Engine.
type Engine struct {
	// Grace is how long commands have to end by themselves after SIGTERM,
	// before they and all their descendants get SIGKILL.
	Grace time.Duration
}

// Name implements engine.Engine.
func (*Engine) Name() string { return "native" }
