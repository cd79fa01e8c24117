// Package engine is where the commands of tasks are executed: on the machine
// itself (native), or in something that encloses them.
package engine

import (
	"context"
	"io"
	"time"
)

// Engine makes the places that runs execute in. It is safe for concurrent use.
type Engine interface {
	// Name is what the log calls the engine.
	Name() string
	// Check says what the engine needs and this machine lacks.
	Check() error
	// Prepare makes the place for one run. Dir is its working directory, which
	// exists. If it is that of a run whose worker crashed, Close ends what is
	// left of that.
	Prepare(ctx context.Context, dir string) (Sandbox, error)
}

// Sandbox executes the commands of one run, one at a time.
type Sandbox interface {
	// Execute runs a command to its end. Its output, standard output and
	// standard error together, goes to out; all that the command itself wrote
	// is there when Execute returns. When ctx ends the command and all that it
	// started are killed. What it left running goes on until Close.
	//
	// An error says that the command could not be started, with the
	// Failure that it means for the run if it is the task's fault.
	Execute(ctx context.Context, command, env []string, out io.Writer) (Result, error)
	// Close kills everything that is left of the run.
	Close() error
}

// Result is how a command ended.
type Result struct {
	ExitCode int // -1 if it was killed
	User     time.Duration
	Kernel   time.Duration
	Wall     time.Duration
}
