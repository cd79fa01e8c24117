package sqlite

import (
	"log/slog"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Commits append to the write-ahead log; a checkpoint copies its pages into
// the database. A goroutine with a connection of its own does so whenever the
// log has grown by copyPages, beside the writer. The log starts over when all
// of it was copied at a moment when nobody writes, which a busy writer never
// leaves: so above restartPages the writer itself copies the little that the
// goroutine has not, between two transactions.
const (
	copyPages    = 4096  // 16 MiB
	restartPages = 16384 // 64 MiB
)

// checkpoints is the part of the engine that keeps the log short.
type checkpoints struct {
	conn    *conn
	pages   uintptr // int32 in SQLite's memory: pages of the log, set at each commit
	copied  int32   // pages of the log when the goroutine was last woken
	rested  int32   // pages of the log when the writer last tried itself
	wake    chan struct{}
	running sync.WaitGroup
}

func (e *engine) startCheckpoints(log *slog.Logger) error {
	var err error
	if e.checkpoints.conn, err = connect(e.path, pragmas, "BEGIN"); err != nil {
		return err
	}
	if e.pages, err = e.writer.alloc(4); err != nil {
		return err
	}
	*(*int32)(pointer(e.pages)) = 0
	hook := struct {
		fn func(*libc.TLS, uintptr, uintptr, uintptr, int32) int32
	}{noteLog}
	sqlite3.Xsqlite3_wal_hook(e.writer.tls, e.writer.db, *(*uintptr)(unsafe.Pointer(&hook)), e.pages)
	e.wake = make(chan struct{}, 1)
	e.running.Go(func() {
		for range e.wake {
			if err := e.checkpoints.conn.checkpoint(); err != nil {
				log.Error("the write-ahead log could not be copied into the database", "error", err)
			}
		}
	})
	return nil
}

// noteLog is called by SQLite after each commit; it only stores the number of
// pages at the address that it was registered with.
func noteLog(_ *libc.TLS, at, _, _ uintptr, pages int32) int32 {
	*(*int32)(pointer(at)) = pages
	return sqlite3.SQLITE_OK
}

// Rest implements store.Engine.
func (e *engine) Rest() {
	pages := *(*int32)(pointer(e.pages))
	if pages < e.copied { // it started over
		e.copied, e.rested = 0, 0
	}
	if pages-e.copied >= copyPages {
		e.copied = pages
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
	if pages >= restartPages && pages-e.rested >= copyPages/4 {
		e.rested = pages
		// An error here shows again, and is logged, in the goroutine.
		_ = e.writer.checkpoint()
	}
}

func (e *engine) stopCheckpoints() {
	if e.wake != nil {
		close(e.wake)
		e.running.Wait()
	}
	if e.checkpoints.conn != nil {
		e.checkpoints.conn.close()
	}
	if e.pages != 0 {
		sqlite3.Xsqlite3_wal_hook(e.writer.tls, e.writer.db, 0, 0)
		e.writer.release(e.pages)
	}
}

// checkpoint copies as much as it can without waiting for anybody.
func (c *conn) checkpoint() error {
	rc := sqlite3.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, sqlite3.SQLITE_CHECKPOINT_PASSIVE, 0, 0)
	if rc != sqlite3.SQLITE_OK && rc&0xff != sqlite3.SQLITE_BUSY {
		return c.error(rc)
	}
	return nil
}
