package app

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// A queue allocates much and keeps little, so its memory may grow to five times
// of what lives before it is swept. Measured: about a fifth less processor time
// per call than with the default. Where much lives, as with ten thousand
// subscribers, that would be a lot: the growth ends at maxGrowth, or where the
// default would end it.
const (
	gcPercent      = 400
	leastGCPercent = 100
	maxGrowth      = 128 << 20
)

// tuneMemory sets the garbage collector now and after each of its rounds,
// unless the environment sets it.
func tuneMemory() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	tuneAfterGC(gcPercent)
}

// tuneAfterGC sets the percentage, which is set now, anew when the collector
// has found a value that nobody holds: after each round.
func tuneAfterGC(set int) {
	// With a pointer in it, the value does not share its memory with others.
	runtime.AddCleanup(&struct{ _ *int }{}, func(set int) {
		percent := percentFor(living())
		if percent != set {
			debug.SetGCPercent(percent)
		}
		tuneAfterGC(percent)
	}, set)
}

// percentFor is how much may be allocated, in percent of what lives.
func percentFor(live uint64) int {
	return int(min(max(maxGrowth*100/max(live, 1), leastGCPercent), gcPercent))
}

// living is what the collector found alive, and what it began at.
func living() (bytes uint64) {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	for _, s := range samples {
		bytes += s.Value.Uint64()
	}
	return bytes
}
