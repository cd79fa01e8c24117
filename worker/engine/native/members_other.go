//go:build unix && !linux

package native

import "syscall"

// members finds the processes of a run as far as they stayed in the groups of
// its commands. It gives the groups themselves, as kill(2) takes them.
func members(groups []int, _ string) (pids []int, unsure bool) {
	for _, g := range groups {
		if syscall.Kill(-g, 0) == nil {
			pids = append(pids, -g)
		}
	}
	return pids, false
}

// alive tells whether a process, or with a negative number a group, still exists.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
