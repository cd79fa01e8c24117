//go:build unix

package cli

import (
	"os"
	"syscall"
)

// ownerOf is the number of the user whom a file belongs to.
func ownerOf(path string) (uid int, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}
