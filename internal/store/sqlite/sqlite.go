// Package sqlite is the store's engine for one machine: SQLite in pure Go, one
// writing connection, several reading ones, one file.
//
// Commits are durable (WAL, synchronous=FULL). A file lock beside the database
// keeps a second process away, so that no statement ever waits for a lock of
// the database. The write-ahead log is copied into the database by a goroutine
// in the background; see checkpoint.go.
package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"taskcluster/internal/store"
)

// Open opens the database file at path, making it (mode 0600) and its
// directory if they do not exist, and applies the migrations.
func Open(ctx context.Context, path string, opts store.Options) (*store.Store, error) {
	e, err := open(path, opts)
	if err != nil {
		return nil, fmt.Errorf("the database %s cannot be opened: %w", path, err)
	}
	return store.New(ctx, e, opts)
}

// engine implements store.Engine.
type engine struct {
	path    string
	lock    *os.File
	writer  *conn
	readers []*conn
	free    chan struct{} // a token for each reader that nobody uses
	idle    stack
	closed  chan struct{}
	checkpoints
}

// These hold for each connection. busy_timeout comes first, because changing
// the journal mode may have to wait. The page cache is 16 MiB for a reader,
// 64 MiB for the writer. Memory-mapped reading stays off: with it a failing
// disk ends the process instead of a statement.
const (
	pragmas = `
		PRAGMA busy_timeout = 10000;
		PRAGMA journal_mode = WAL;
		PRAGMA synchronous = FULL;
		PRAGMA foreign_keys = ON;
		PRAGMA trusted_schema = OFF;
		PRAGMA temp_store = MEMORY;
		PRAGMA mmap_size = 0;
		PRAGMA wal_autocheckpoint = 0;
		PRAGMA journal_size_limit = 268435456;`
	writerPragmas = `PRAGMA cache_size = -65536;`
	readerPragmas = `PRAGMA cache_size = -65536; PRAGMA query_only = ON;`
)

func open(path string, opts store.Options) (_ *engine, err error) {
	if path == "" || path == ":memory:" {
		return nil, errors.New("it needs the name of a file")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	e := &engine{path: path, lock: lock, closed: make(chan struct{})}
	defer func() {
		if err != nil {
			e.Close()
		}
	}()
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	if e.writer, err = connect(path, pragmas+writerPragmas, "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	if opts.MaxPages > 0 {
		if err := e.writer.Script(fmt.Sprintf("PRAGMA max_page_count = %d", opts.MaxPages)); err != nil {
			return nil, err
		}
	}
	readers := opts.Readers
	if readers <= 0 {
		readers = 4
	}
	e.free = make(chan struct{}, readers)
	for range readers {
		reader, err := connect(path, pragmas+readerPragmas, "BEGIN")
		if err != nil {
			return nil, err
		}
		e.readers = append(e.readers, reader)
		e.Release(reader)
	}
	log := opts.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return e, e.startCheckpoints(log)
}

func (e *engine) Dialect() string    { return store.SQLite }
func (e *engine) Where() string      { return e.path }
func (e *engine) Writer() store.Conn { return e.writer }

// Listen has nobody to listen to: the file is locked.
func (e *engine) Listen(context.Context, store.Listener) (shared bool, err error) {
	return false, nil
}

func (e *engine) Reader(ctx context.Context) (store.Conn, error) {
	select {
	case <-e.closed:
		return nil, store.ErrClosed
	default:
	}
	select {
	case <-e.free:
		return e.idle.pop(), nil
	default:
	}
	select {
	case <-e.free:
		return e.idle.pop(), nil
	case <-e.closed:
		return nil, store.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (e *engine) Release(c store.Conn) {
	e.idle.push(c.(*conn))
	e.free <- struct{}{}
}

// stack gives out the reader that was used last, whose cache of pages is the
// warmest: a deployment with little to do keeps one warm, not all.
type stack struct {
	mu    sync.Mutex
	conns []*conn
}

func (s *stack) push(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
}

func (s *stack) pop() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.conns[len(s.conns)-1]
	s.conns = s.conns[:len(s.conns)-1]
	return c
}

// Close waits for the readers. SQLite copies the log into the database when
// the last connection closes.
func (e *engine) Close() error {
	close(e.closed)
	var errs []error
	e.stopCheckpoints()
	for range e.readers {
		<-e.free
		errs = append(errs, e.idle.pop().close())
	}
	if e.writer != nil {
		errs = append(errs, e.writer.close())
	}
	errs = append(errs, e.lock.Close()) // this releases the lock
	return errors.Join(errs...)
}
