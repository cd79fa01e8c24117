//go:build !unix

package native

import (
	"context"
	"fmt"
	"runtime"

	"taskcluster/worker/engine"
)

// Check implements engine.Engine. What a task leaves running is found by its
// process group.
func (*Engine) Check() error {
	return fmt.Errorf("the native engine needs the process groups and signals of Unix, which %s does not have: run the worker on Linux, macOS or a BSD", runtime.GOOS)
}

// Prepare implements engine.Engine.
func (e *Engine) Prepare(context.Context, string) (engine.Sandbox, error) { return nil, e.Check() }
