package sqlite

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Commits append to the write-ahead log; a checkpoint copies its pages into
// the database. A goroutine with a connection of its own does so whenever the
// log has grown by copyPages, beside the writer, and gives the disk little at a
// time (gradual.go). The log starts over when all of it was copied at a moment
// when nobody writes, which a busy writer never leaves: so above restartPages the
// goroutine copies again and again, and when it has left little, the writer
// itself copies that, between two transactions. Beyond morePages a longer pause
// of the writer is better than a longer log, and from mostPages on any pause.
const (
	copyPages    = 4096             // 16 MiB
	restartPages = 16384            // 64 MiB
	lastPages    = 256              // 1 MiB
	againPages   = 64               // more than when the writer tried last
	copyAgain    = time.Second      // after a failure
	morePages    = 2 * restartPages // 128 MiB
	mostPages    = 4 * restartPages // 256 MiB
)

// little is how many pages the writer copies of a log.
func little(pages int32) int32 {
	if pages >= mostPages {
		return pages
	}
	return max(lastPages, (pages-morePages)/2)
}

// checkpoints is the part of the engine that keeps the log short.
type checkpoints struct {
	log     *slog.Logger
	conn    *conn
	pages   uintptr      // int32 in SQLite's memory: pages of the log, set at each commit
	copied  atomic.Int32 // of these are in the database
	busy    atomic.Bool  // the goroutine was woken and has not finished
	tried   int32        // pages of the log when the writer last copied
	wake    chan struct{}
	running sync.WaitGroup
}

func (e *engine) startCheckpoints(log *slog.Logger) error {
	e.log = log
	var err error
	if e.checkpoints.conn, err = connect(e.path, pragmas, "BEGIN"); err != nil {
		return err
	}
	file, err := e.checkpoints.conn.gradual()
	if err != nil {
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
		c := e.checkpoints.conn
		for range e.wake {
			err := e.copyLog(c, "beside the writer")
			if err == nil {
				if rc := gradualOf(file).sync(c.tls, file); rc != sqlite3.SQLITE_OK {
					err = c.error(rc)
				}
			}
			if err != nil {
				log.Error("the write-ahead log could not be copied into the database", "error", err)
				select { // each commit would have it tried and told of again
				case <-e.wake: // closed: nobody wakes who is busy
				case <-time.After(copyAgain):
				}
			}
			e.busy.Store(false)
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
	pages, copied := *(*int32)(pointer(e.pages)), e.copied.Load()
	if pages < copied || pages < e.tried { // it started over
		copied, e.tried = 0, 0
		e.copied.Store(0)
	}
	left := pages - copied
	switch {
	case e.busy.Load():
	case pages >= restartPages && left <= little(pages) && pages-e.tried >= againPages:
		e.tried = pages
		// An error here shows again, and is logged, in the goroutine.
		_ = e.copyLog(e.writer, "by the writer")
	case left >= copyPages || pages >= restartPages && left > little(pages):
		e.busy.Store(true)
		e.wake <- struct{}{}
	}
}

// copyLog copies as much of the log as it can without waiting for anybody.
func (e *engine) copyLog(c *conn, how string) error {
	began, before := time.Now(), e.copied.Load()
	copied, err := c.checkpoint()
	if copied > 0 {
		e.copied.Store(copied)
	}
	e.log.Debug("the write-ahead log was copied into the database", "how", how, "pages", copied-before, "of", copied, "took", time.Since(began))
	return err
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

// checkpoint copies as much as it can without waiting for anybody, and tells
// how many pages of the log are in the database.
func (c *conn) checkpoint() (copied int32, err error) {
	*(*int32)(pointer(c.out)) = -1
	rc := sqlite3.Xsqlite3_wal_checkpoint_v2(c.tls, c.db, 0, sqlite3.SQLITE_CHECKPOINT_PASSIVE, 0, c.out)
	copied = *(*int32)(pointer(c.out))
	if rc != sqlite3.SQLITE_OK && rc&0xff != sqlite3.SQLITE_BUSY {
		return copied, c.error(rc)
	}
	return copied, nil
}
