//go:build unix

package native

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// ownGroup makes a command the leader of a new process group.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// tree is all processes of a run.
type tree struct {
	dir string // the run's directory, which marks its processes

	mu     sync.Mutex
	groups []int // process groups of the commands
}

func newTree(dir string) *tree { return &tree{dir: dir} }

// add tells of a command, which leads a group.
func (t *tree) add(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.groups = append(t.groups, pid)
}

// terminate asks all processes to end.
func (t *tree) terminate() { t.signal(syscall.SIGTERM) }

// forget drops the group of a command that ended if nobody is left in it, so
// that its number may be used again by others.
func (t *tree) forget(pid int) {
	if syscall.Kill(-pid, 0) != syscall.ESRCH {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.groups = slices.DeleteFunc(slices.Clone(t.groups), func(g int) bool { return g == pid })
}

// rounds limits the hunt for processes that start others while they are
// killed, and the wait for those that the kernel cannot end: about 20 seconds.
const rounds = 1000

// kill ends all processes. It returns when they are gone.
func (t *tree) kill() {
	victims := map[int]bool{}
	for round := range rounds {
		pids, unsure := t.signal(syscall.SIGKILL)
		for _, pid := range pids {
			victims[pid] = true
		}
		// Those who are dying may have lost what they were known by.
		for pid := range victims {
			if !alive(pid) {
				t.bury(pid)
				delete(victims, pid)
			}
		}
		if len(pids) == 0 && len(victims) == 0 && !unsure {
			return
		}
		time.Sleep(min(time.Duration(round), 20) * time.Millisecond)
	}
}

// bury collects a dead process if it is a child of this one. An orphan becomes
// that of the first process of a container, which this may be. Commands
// themselves are waited for where they were started.
func (t *tree) bury(pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if pid > 0 && !slices.Contains(t.groups, pid) {
		syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}

// signal reaches the groups of the commands and those who left them. It
// returns whom it found, and whether it may have missed some.
func (t *tree) signal(s syscall.Signal) (pids []int, unsure bool) {
	t.mu.Lock()
	groups := t.groups
	t.mu.Unlock()
	pids, unsure = members(groups, t.dir)
	for _, pid := range pids {
		syscall.Kill(pid, s)
	}
	return pids, unsure
}

// readAvailable copies what lies in a pipe, without waiting for more, and
// tells whether anyone still holds its other end.
func readAvailable(r *os.File, out io.Writer) (open bool) {
	raw, err := r.SyscallConn()
	if err != nil {
		return false
	}
	buf := make([]byte, 64<<10)
	// A pipe holds at most so much, unless a privileged process enlarges it:
	// others who write all the time must not keep us here.
	for total := 0; total < 1<<20; {
		n := 0
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			for {
				n, readErr = syscall.Read(int(fd), buf)
				if readErr != syscall.EINTR {
					return true
				}
			}
		})
		switch {
		case err != nil:
			return false
		case readErr == syscall.EAGAIN:
			return true
		case readErr != nil || n == 0:
			return false
		}
		out.Write(buf[:n])
		total += n
	}
	return true
}
