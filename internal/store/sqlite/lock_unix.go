//go:build unix

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"taskcluster/internal/store"
)

// lockFile takes the lock that lasts until the file is closed or the process
// ends. The file holds the process's number, for the message.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the lock %s cannot be taken: %w", path, err)
		}
		text := make([]byte, 20)
		n, _ := f.ReadAt(text, 0)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err == nil {
			return nil, fmt.Errorf("%w (number %d); stop it first, or use another data directory", store.ErrLocked, pid)
		}
		return nil, fmt.Errorf("%w; stop it first, or use another data directory", store.ErrLocked)
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil && !errors.Is(err, syscall.ENOSPC) { // only the message needs it
			f.Close()
			return nil, err
		}
	}
	return f, nil
}
