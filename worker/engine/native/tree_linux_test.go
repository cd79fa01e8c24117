package native

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"taskcluster/worker/engine"
)

// family starts processes that ignore SIGTERM, leave the group, the session
// and their parent, and prints their numbers.
const family = `trap '' TERM
sleep 1000 & echo pid $!
(trap '' TERM; sleep 1000 & echo pid $!; wait) &
setsid sh -c 'trap "" TERM; echo pid $$; sleep 1000 & echo pid $!; wait' &
setsid sh -c '(trap "" TERM; setsid sleep 1000 & echo pid $!)' &
env -i PATH="$PATH" setsid sh -c 'echo pid $$; sleep 1000 & wait' &
`

func pids(t *testing.T, text string) (all []int) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n, ok := strings.CutPrefix(line, "pid "); ok {
			pid, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, pid)
		}
	}
	return all
}

func gone(t *testing.T, all []int, want int) {
	t.Helper()
	if len(all) != want {
		t.Fatalf("%d processes, want %d", len(all), want)
	}
	for _, pid := range all {
		if alive(pid) {
			proc := "/proc/" + strconv.Itoa(pid)
			stat, _ := os.ReadFile(proc + "/stat")
			args, _ := os.ReadFile(proc + "/cmdline")
			env, _ := os.ReadFile(proc + "/environ")
			t.Errorf("process %d is alive: %q, arguments %q, environment %q", pid, stat, args, env)
		}
	}
}

func TestKillReachesTheWholeTree(t *testing.T) {
	s := prepare(t, time.Millisecond)
	other := prepare(t, 0)
	var beside output
	sh(t, other, "sleep 1000 & echo pid $!", &beside)

	ctx, cancel := context.WithCancel(t.Context())
	var out output
	done := make(chan engine.Result, 1)
	go func() {
		r, err := s.Execute(ctx, []string{"sh", "-c", family + "wait"}, path, &out)
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	for text := out.String(); strings.Count(text, "\n") < 6; text = out.String() {
		out.grown(t, len(text))
	}
	cancel()
	if r := <-done; r.ExitCode != -1 {
		t.Fatal(r)
	}
	gone(t, pids(t, out.String()), 6)
	if p := pids(t, beside.String()); len(p) != 1 || !alive(p[0]) {
		t.Error("a process of another run was killed")
	}
}

func TestCloseEndsWhatIsLeft(t *testing.T) {
	s := prepare(t, 0)
	var out output
	sh(t, s, "(setsid sleep 1000 & echo pid $!) ; sleep 1000 & echo pid $!", &out)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	gone(t, pids(t, out.String()), 2)
}
