package sqlite

import (
	"fmt"
	"os"
	"syscall"

	"taskcluster/internal/store"
)

// lockFile opens the file for this process alone, until it is closed.
func lockFile(path string) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	const sharingViolation = syscall.Errno(32)
	handle, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err == sharingViolation {
		return nil, fmt.Errorf("%w; stop it first, or use another data directory", store.ErrLocked)
	}
	if err != nil {
		return nil, fmt.Errorf("the lock %s cannot be taken: %w", path, err)
	}
	return os.NewFile(uintptr(handle), path), nil
}
