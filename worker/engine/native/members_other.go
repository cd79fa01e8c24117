//go:build unix && !linux

package native

import "syscall"

// members finds the processes of a run as far as they stayed in the groups of
// its commands. It gives the groups themselves, as kill(2) takes them.
func members(groups []int, _ string) (pids []int) {
	for _, g := range groups {
		if syscall.Kill(-g, 0) == nil {
			pids = append(pids, -g)
		}
	}
	return pids
}
