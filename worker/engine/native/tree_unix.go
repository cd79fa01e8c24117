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

// kill ends all processes. It returns when none was found any more.
func (t *tree) kill() {
	for round := range rounds {
		if !t.signal(syscall.SIGKILL) {
			return
		}
		time.Sleep(min(time.Duration(round), 20) * time.Millisecond)
	}
}

// signal reaches the groups of the commands and those who left them, and
// tells whether any process was found.
func (t *tree) signal(s syscall.Signal) bool {
	t.mu.Lock()
	groups := t.groups
	t.mu.Unlock()
	found := false
	for _, pid := range members(groups, t.dir) {
		found = true
		syscall.Kill(pid, s)
		// An orphan becomes a child of the first process of a container, which
		// may be this one: then nobody else would bury it. Commands themselves
		// are waited for where they were started.
		if s == syscall.SIGKILL && pid > 0 && !slices.Contains(groups, pid) {
			syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
	}
	return found
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
