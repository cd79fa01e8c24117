package lifecycle

import (
	"fmt"
	"runtime"
	"strings"
	"time"
)

// TB is the part of testing.TB that CheckLeaks needs.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
}

// CheckLeaks makes a test fail that leaves goroutines behind: it compares those
// that run at the end of the test, after the Cleanups registered later than it,
// with those that run now. Goroutines get five seconds to end. Do not use it in
// tests that run in parallel with others.
func CheckLeaks(t TB) {
	t.Helper()
	before := map[string]bool{}
	for id := range goroutines() {
		before[id] = true
	}
	t.Cleanup(func() {
		t.Helper()
		var left []string
		for deadline := time.Now().Add(5 * time.Second); ; {
			left = left[:0]
			for id, stack := range goroutines() {
				if !before[id] {
					left = append(left, stack)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				break
			}
			runtime.Gosched()
			time.Sleep(time.Millisecond) // there is no event for the end of a foreign goroutine
		}
		t.Errorf("%d goroutines were left behind:\n\n%s", len(left), strings.Join(left, "\n\n"))
	})
}

// goroutines are the stacks of those that run, by goroutine number.
func goroutines() map[string]string {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	all := map[string]string{}
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		var id int
		if _, err := fmt.Sscanf(stack, "goroutine %d ", &id); err == nil && !strings.Contains(stack, "testing.(*T).Run(") {
			all[fmt.Sprint(id)] = stack
		}
	}
	return all
}
