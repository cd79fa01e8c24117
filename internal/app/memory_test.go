package app

import (
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
)

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 10 << 20: 400, 32 << 20: 400, 64 << 20: 200, 128 << 20: 100, 1 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("with %d MiB alive: %d percent, want %d", live>>20, got, want)
		}
	}
}

// What lives is looked at after each round of the collector.
func TestMemoryIsTuned(t *testing.T) {
	if os.Getenv("GOGC") != "" {
		t.Skip("NOTE: the environment (GOGC) sets the collector, so that what sets it here was not tried")
	}
	tuneMemory()
	percent := func() uint64 {
		runtime.GC()
		s := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	much := make([]byte, 256<<20) // never touched, it takes no memory
	within(t, "the collector is set for much that lives", func() bool { return percent() == leastGCPercent })
	runtime.KeepAlive(much)
	within(t, "and for little", func() bool { return percent() > leastGCPercent })
}
