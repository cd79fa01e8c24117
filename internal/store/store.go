// Package store is how every service keeps its data: transactions over one
// SQL text that SQLite and PostgreSQL both understand.
//
// What it promises:
//
//   - Write returns after its transaction is durable (or not at all done).
//     Callers that arrive while a transaction runs share the next one, so that
//     many of them pay for one flush to disk (group commit, without a timer).
//   - An error of one caller never touches the others that share a transaction.
//   - Read sees one snapshot, and runs beside the writer.
//   - Hooks (OnCommit) run once, in order, after the commit is durable and
//     before any caller is answered.
//   - Signals tell those who keep something in memory that it changed, in every
//     process that shares the database.
//   - When the disk is full or fails, nobody is told that his data was kept,
//     and the store works again as soon as the disk does.
//
// Engines (packages sqlite and postgres) implement Engine; services only see Store and Tx.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/trace"

	"taskcluster/internal/clock"
)

// Options says how a store is opened. The zero value works.
type Options struct {
	Clock      clock.Clock  // the machine's clock when nil
	Log        *slog.Logger // nothing is logged when nil
	Migrations []Migrations // applied at opening, in this order, after the store's own

	// Tracer makes spans of what callers do who are traced themselves; none when nil.
	Tracer trace.Tracer
	// Observer is told of each commit, and of background work; nobody when nil.
	Observer Observer

	// Readers is the number of connections for Read; 4 when zero.
	Readers int
	// MaxBatch is the greatest number of operations in one transaction; 512
	// when zero.
	MaxBatch int
	// MaxPages limits the size of a SQLite database in pages of 4 KiB; no
	// limit when zero. Beyond it, writes fail with ErrDiskFull.
	MaxPages int64
	// Alone says that no other process will open the database while this one
	// has it open, so that nothing is listened for. It has no effect on SQLite,
	// whose file belongs to one process.
	Alone bool
}

// Stats counts what a store did since it was opened. Tests assert on differences.
type Stats struct {
	Commits    int64 // transactions committed by the writer
	Rollbacks  int64 // transactions that the writer undid
	Operations int64 // Write calls and Batch items that were answered without error
	Reads      int64 // Read calls
	Statements int64 // SQL statements run by Write, Batch and Read, without BEGIN and COMMIT
}

// Store is an open database. Its methods are safe for concurrent use.
type Store struct {
	engine Engine
	clock  clock.Clock
	log    *slog.Logger
	writer *writer
	readTx sync.Pool // of *Tx, with their scratch space

	signals  *signals
	shared   bool
	tracer   trace.Tracer // may be nil
	observer Observer     // may be nil
	keeper   *keeper      // nil when nobody shares the database

	closing sync.Once
	closed  error

	commits, rollbacks, operations, reads, statements atomic.Int64
}

// New is for engines: it applies the migrations and starts the writer. On an
// error the engine is closed.
func New(ctx context.Context, engine Engine, opts Options) (*Store, error) {
	s := &Store{engine: engine, clock: opts.Clock, log: opts.Log, signals: newSignals(), tracer: opts.Tracer, observer: opts.Observer}
	if s.clock == nil {
		s.clock = clock.Real{}
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if opts.MaxBatch <= 0 {
		opts.MaxBatch = 512
	}
	all := append([]Migrations{OwnMigrations()}, opts.Migrations...)
	if err := migrate(ctx, engine, s.clock, all); err != nil {
		engine.Close()
		return nil, err
	}
	if !opts.Alone {
		var err error
		if s.shared, err = engine.Listen(ctx, Listener{Heard: s.heard, Lost: s.lost, Sure: s.sure, Asked: s.signals.asked}); err != nil {
			engine.Close()
			return nil, err
		}
	}
	s.writer = newWriter(s, opts.MaxBatch)
	s.readTx.New = func() any { return &Tx{clock: s.clock, readOnly: true} }
	if s.shared {
		s.keeper = newKeeper(s)
	}
	return s, nil
}

// Write runs fn in a transaction and returns after it is durable. Concurrent
// callers share one transaction.
//
// fn may run more than once (the transaction is undone and fn runs again), so
// it sets its results afresh each time and touches memory only through
// tx.OnCommit. An error from fn undoes what fn did, and is returned. fn must
// not call Write, Batch.Do or Read: it would wait for itself.
//
// When ctx ends while the call still waits in line, it is withdrawn and ctx's
// error is returned; once fn runs, Write returns its real outcome.
func (s *Store) Write(ctx context.Context, fn func(*Tx) error) error {
	return s.writer.submit(ctx, nil, fn, nil)
}

// Read runs fn on a snapshot of the database, in parallel with the writer.
// Statements that write are refused, and so are hooks.
func (s *Store) Read(ctx context.Context, fn func(*Tx) error) (err error) {
	if span := s.span(ctx, "store.Read"); span != nil {
		defer func() { endSpan(span, err) }()
	}
	conn, err := s.reader(ctx)
	if err != nil {
		return err
	}
	defer s.engine.Release(conn)
	if err := conn.Begin(); err != nil {
		return err
	}
	err = s.read(ctx, conn, fn, false)
	if err := conn.Rollback(); err != nil {
		s.log.Error("a read transaction could not be ended", "error", err)
	}
	return err
}

// ReadOne is Read for a function that runs one statement, and is quicker,
// because a statement is a snapshot by itself. A second one is refused. fn may
// run again when the connection turns out to be lost.
func (s *Store) ReadOne(ctx context.Context, fn func(*Tx) error) (err error) {
	if span := s.span(ctx, "store.Read"); span != nil {
		defer func() { endSpan(span, err) }()
	}
	conn, err := s.reader(ctx)
	if err != nil {
		return err
	}
	defer s.engine.Release(conn)
	return single(conn, func() error { return s.read(ctx, conn, fn, true) })
}

// single runs one statement without a transaction; again when the connection
// turns out to be lost.
func single(conn Conn, run func() error) error {
	for attempt := 1; ; attempt++ {
		if err := conn.Single(); err != nil {
			return err
		}
		if err := run(); !errors.Is(err, ErrUnavailable) || attempt == 2 {
			return err
		}
	}
}

// reader is a connection for one Read, to be released.
func (s *Store) reader(ctx context.Context) (Conn, error) {
	conn, err := s.engine.Reader(ctx)
	if err != nil {
		return nil, err
	}
	s.reads.Add(1)
	if ctx.Err() != nil {
		s.engine.Release(conn)
		return nil, context.Cause(ctx)
	}
	return conn, nil
}

func (s *Store) read(ctx context.Context, conn Conn, fn func(*Tx) error, single bool) error {
	tx := s.readTx.Get().(*Tx)
	tx.conn, tx.ctx, tx.single = conn, ctx, single
	tx.pipe, _ = conn.(Pipeliner)
	err := tx.run(fn)
	s.logPanic(err)
	s.statements.Add(tx.statements)
	tx.reset()
	tx.conn, tx.pipe, tx.ctx, tx.statements = nil, nil, nil, 0
	s.readTx.Put(tx)
	return err
}

// Describe prepares a statement without running it, and returns its number of
// arguments and of columns: for tests of the statements.
func (s *Store) Describe(ctx context.Context, q *Stmt) (params, columns int, err error) {
	conn, err := s.engine.Reader(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer s.engine.Release(conn)
	if params, columns, err = conn.Describe(q); err != nil {
		return 0, 0, fmt.Errorf("%w (in: %s)", err, q)
	}
	return params, columns, nil
}

// Stats tells what the store did so far.
func (s *Store) Stats() Stats {
	return Stats{
		Commits:    s.commits.Load(),
		Rollbacks:  s.rollbacks.Load(),
		Operations: s.operations.Load(),
		Reads:      s.reads.Load(),
		Statements: s.statements.Load(),
	}
}

// Waiting is the number of writes that wait in line and do not run yet.
func (s *Store) Waiting() int {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return len(s.writer.waiting)
}

// Now is the present instant by the store's clock.
func (s *Store) Now() clock.Time { return s.clock.Now() }

// Close finishes the operations that wait, refuses later ones with ErrClosed,
// and closes the database.
func (s *Store) Close() error {
	s.closing.Do(func() {
		if s.keeper != nil {
			s.keeper.stop()
		}
		s.writer.stop()
		s.closed = s.engine.Close()
	})
	return s.closed
}

// contain runs fn and turns a panic into an error.
func contain(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = newPanicError(p)
		}
	}()
	return fn()
}

func (s *Store) logPanic(err error) {
	if p := asPanic(err); p != nil {
		s.log.Error("a panic was contained in a transaction", "panic", fmt.Sprint(p.Value), "stack", string(p.Stack))
	}
}
