package sqlite

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// A checkpoint beside the writer must not leave much for the disk to do at once:
// a commit's flush waits for all that the disk was given before. SQLite writes
// all pages of a checkpoint and then syncs the file, and that only if nobody
// committed meanwhile; what it did not sync waits for the checkpoint that does.
// So the file that the background connection writes to is synced after every
// gradualBytes, and at the end.

// gradualBytes is how much is written between two syncs.
const gradualBytes = 256 << 10

// gradualFile follows SQLite's own file object in memory, where a walFile is for
// a log.
type gradualFile struct {
	methods  sqlite3.Tsqlite3_io_methods // the original's, but for xWrite
	original uintptr                     // *sqlite3_io_methods
	unsynced int64                       // bytes written since the last sync
}

// gradual makes the connection's writes to the database file gradual. It returns
// SQLite's file object.
func (c *conn) gradual() (file uintptr, err error) {
	name, err := c.cString("main")
	if err != nil {
		return 0, err
	}
	defer c.release(name)
	if rc := sqlite3.Xsqlite3_file_control(c.tls, c.db, name, sqlite3.SQLITE_FCNTL_FILE_POINTER, c.out); rc != sqlite3.SQLITE_OK {
		return 0, c.error(rc)
	}
	file = *(*uintptr)(pointer(c.out))
	f := (*sqlite3.Tsqlite3_file)(pointer(file))
	own := file + uintptr(vfsOf(c.tls).FszOsFile)
	g := (*gradualFile)(pointer(own))
	*g = gradualFile{original: f.FpMethods}
	g.methods = *g.originals()
	g.methods.FxWrite = function(gradualWrite)
	f.FpMethods = own
	return file, nil
}

func gradualOf(file uintptr) *gradualFile {
	return (*gradualFile)(pointer((*sqlite3.Tsqlite3_file)(pointer(file)).FpMethods))
}

func (g *gradualFile) originals() *sqlite3.Tsqlite3_io_methods {
	return (*sqlite3.Tsqlite3_io_methods)(pointer(g.original))
}

func gradualWrite(tls *libc.TLS, file, buf uintptr, amount int32, offset int64) int32 {
	g := gradualOf(file)
	rc := as[ioFunc](g.originals().FxWrite)(tls, file, buf, amount, offset)
	g.unsynced += int64(amount)
	if rc != sqlite3.SQLITE_OK || g.unsynced < gradualBytes {
		return rc
	}
	return g.sync(tls, file)
}

// sync makes durable what was written.
func (g *gradualFile) sync(tls *libc.TLS, file uintptr) int32 {
	if g.unsynced == 0 {
		return sqlite3.SQLITE_OK
	}
	g.unsynced = 0
	return syncData(tls, file, g.originals(), sqlite3.SQLITE_SYNC_NORMAL|sqlite3.SQLITE_SYNC_DATAONLY)
}
