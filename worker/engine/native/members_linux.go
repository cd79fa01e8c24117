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

// members finds the living processes of a run: those in the groups of its
// commands, those that carry its mark in their environment even when they have
// left group and session and lost their parent, and the descendants of all
// these. Only a process that also cleared its environment is not found.
func members(groups []int, dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
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
		} else if env, err := os.ReadFile("/proc/" + e.Name() + "/environ"); err == nil {
			ours[pid] = bytes.Contains(append([]byte{0}, env...), mark)
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
	var pids []int
	for _, p := range all {
		if ours[p.pid] {
			pids = append(pids, p.pid)
		}
	}
	return pids
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
