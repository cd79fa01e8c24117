package sqlite

import (
	"golang.org/x/sys/unix"
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// syncData makes what was written to a file durable, with its size, but not the
// time of its last change: SQLite as it is translated here has fsync only, which
// for that time alone makes the file system write its journal, at each commit.
func syncData(_ *libc.TLS, file uintptr, _ *sqlite3.Tsqlite3_io_methods, _ int32) int32 {
	fd := int((*sqlite3.TunixFile)(pointer(file)).Fh)
	for {
		switch err := unix.Fdatasync(fd); err {
		case nil:
			return sqlite3.SQLITE_OK
		case unix.EINTR:
		default:
			return sqlite3.SQLITE_IOERR_FSYNC
		}
	}
}
