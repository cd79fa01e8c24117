package native

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// process is what /proc tells of one.
type process struct{ pid, parent, group int }

// kthreadd is the parent of the kernel's own threads, which have neither
// environment nor arguments.
const kthreadd = 2

// members finds the living processes of a run: those in the groups of its
// commands, those that carry its mark in their environment even when they have
// left group and session and lost their parent, and the descendants of all
// these. Only a process that also cleared its environment is not found.
//
// Unsure says that a process was just becoming another program (execve), when
// it shows no environment: it is worth looking again.
func members(groups []int, dir string) (pids []int, unsure bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, false
	}
	mark := []byte("\x00" + marker + dir + "\x00")
	self := os.Getpid()
	var all []process
	ours := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		p, ok := stat(pid)
		if !ok {
			continue
		}
		all = append(all, p)
		if slices.Contains(groups, p.group) {
			ours[pid] = true
		} else if p.parent != kthreadd && pid != kthreadd {
			marked, changing := environ("/proc/"+e.Name(), mark)
			ours[pid] = marked
			unsure = unsure || changing
		}
	}
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if !ours[p.pid] && ours[p.parent] {
				ours[p.pid], grew = true, true
			}
		}
	}
	for _, p := range all {
		if ours[p.pid] {
			pids = append(pids, p.pid)
		}
	}
	return pids, unsure
}

// environ tells whether a process has the mark in its environment, or whether
// it is in the middle of an execve, when it has neither environment nor arguments.
func environ(proc string, mark []byte) (marked, changing bool) {
	env, err := os.ReadFile(proc + "/environ")
	if err != nil {
		return false, false
	}
	if len(env) == 0 {
		args, err := os.ReadFile(proc + "/cmdline")
		if err == nil && len(args) == 0 {
			return false, true
		}
		if env, err = os.ReadFile(proc + "/environ"); err != nil { // the execve may be over since
			return false, false
		}
	}
	return bytes.Contains(append([]byte{0}, env...), mark), false
}

// alive tells whether a process still runs.
func alive(pid int) bool {
	_, ok := stat(pid)
	return ok
}

// stat reads /proc/<pid>/stat (proc(5)). Zombies are not living.
func stat(pid int) (process, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 3 || fields[0] == "Z" || fields[0] == "X" {
		return process{}, false
	}
	parent, err1 := strconv.Atoi(fields[1])
	group, err2 := strconv.Atoi(fields[2])
	return process{pid, parent, group}, err1 == nil && err2 == nil
}
