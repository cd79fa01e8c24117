package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginWriting asks for a part of a file to be written to the disk, and does
// not wait for that. It may fail: Sync does all that matters.
func beginWriting(f *os.File, offset, length int64) {
	unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE)
}
