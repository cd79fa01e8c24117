//go:build !linux

package sqlite

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// syncData makes what was written to a file durable, as SQLite does it.
func syncData(tls *libc.TLS, file uintptr, original *sqlite3.Tsqlite3_io_methods, flags int32) int32 {
	return as[syncFunc](original.FxSync)(tls, file, flags)
}
