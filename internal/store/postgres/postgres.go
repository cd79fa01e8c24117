// Package postgres is the store's engine for PostgreSQL 15 and newer: one
// writing connection, several reading ones and one that listens, over pgx's
// protocol layer.
//
// Commits are durable: a session in which the server would answer before it
// has flushed is put right. Readers see one snapshot (REPEATABLE READ), taken
// at their first statement.
//
// A writing transaction begins with a lock that it keeps to its end, so that of
// all processes one writes at a time, in the order in which they asked, and what
// it reads (READ COMMITTED) is what all the others have left. Nobody waits for
// long: the server ends a transaction in which nothing happens for IdleTime and
// a statement after AnswerTime, and a server that does not answer is given up
// little later.
//
// A connection that was lost is made again at the next transaction. What ran
// on it fails with store.ErrUnavailable and was not stored. A connection that
// is lost while a commit is under way leaves its outcome open: the engine asks
// the server for it, for as long as Patience, before it answers. Only when the
// server stays away, or has crashed and since committed a transaction of the same
// number, does the caller get store.ErrOutcomeUnknown.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"taskcluster/internal/store"
)

const (
	// MinVersion is the oldest release of PostgreSQL that is taken, as in its
	// setting server_version_num.
	MinVersion = 150000
	// Patience is how long a commit whose answer was lost waits for the server
	// to come back and tell what became of it.
	Patience = 30 * time.Second

	// AnswerTime is how long the server may work at one statement, waiting for
	// another process's transaction included. After a little more the
	// connection is given up.
	AnswerTime = 10 * time.Second
	// IdleTime is after how long the server ends a transaction in which nothing
	// happens: the process that began it hangs, and all others wait for it.
	IdleTime = 5 * time.Second

	connectTimeout = 5 * time.Second
	closeTimeout   = time.Second
)

// Open connects to the database that url names, as a URL
// (postgres://user:password@host:port/database) or as keywords and values
// (host=… dbname=…), and applies the migrations. The environment variables and
// the password file of libpq fill in what url leaves out.
func Open(ctx context.Context, url string, opts store.Options) (*store.Store, error) {
	e, err := open(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	return store.New(ctx, e, opts)
}

// engine implements store.Engine.
type engine struct {
	config   *pgconn.Config
	log      *slog.Logger
	patience time.Duration
	answer   time.Duration // AnswerTime
	idle     time.Duration // IdleTime
	writer   *conn
	readers  []*conn
	free     chan *conn // readers that nobody uses
	closed   chan struct{}

	schema    int32  // stands for the schema in locks
	channel   string // of notices, for this database and schema
	listening listener
}

func open(ctx context.Context, url string, opts store.Options) (*engine, error) {
	return openWith(ctx, url, opts, AnswerTime, IdleTime)
}

func openWith(ctx context.Context, url string, opts store.Options, answer, idle time.Duration) (*engine, error) {
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		// Its message may hold a part of the password.
		return nil, errors.New("the connection string of PostgreSQL is malformed: write postgres://user:password@host:port/database, with percent-encoding for what is special in the password")
	}
	if config.ConnectTimeout <= 0 || config.ConnectTimeout > connectTimeout {
		config.ConnectTimeout = connectTimeout
	}
	config.DialFunc = dialer(config.ConnectTimeout).DialContext
	if config.ValidateConnect == nil { // with several hosts: the primary
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "taskcluster"
	}
	config.RuntimeParams["client_encoding"] = "UTF8"

	e := &engine{config: config, log: opts.Log, patience: Patience, answer: answer, idle: idle, closed: make(chan struct{})}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	readers := opts.Readers
	if readers <= 0 {
		readers = 4
	}
	e.writer = newConn(e, true)
	e.free = make(chan *conn, readers)
	for range readers {
		c := newConn(e, false)
		e.readers = append(e.readers, c)
		e.free <- c
	}
	// Readers connect at their first use.
	if err := e.writer.connect(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if err := e.findSchema(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// dialer notices within ten seconds that the other side is gone for good.
func dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{
		Timeout:         timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 4 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         userTimeout,
	}
}

func (e *engine) Dialect() string { return store.Postgres }

func (e *engine) Where() string {
	return fmt.Sprintf("the PostgreSQL database %s at %s", e.config.Database, net.JoinHostPort(e.config.Host, fmt.Sprint(e.config.Port)))
}

func (e *engine) Writer() store.Conn { return e.writer }

func (e *engine) Reader(ctx context.Context) (store.Conn, error) {
	select {
	case <-e.closed:
		return nil, store.ErrClosed
	default:
	}
	select {
	case c := <-e.free:
		return c, nil
	default:
	}
	select {
	case c := <-e.free:
		return c, nil
	case <-e.closed:
		return nil, store.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (e *engine) Release(c store.Conn) { e.free <- c.(*conn) }

// Rest does nothing: the server does its housekeeping by itself.
func (e *engine) Rest() {}

// Close waits for the readers.
func (e *engine) Close() error {
	close(e.closed)
	e.listening.stop()
	for range e.readers {
		(<-e.free).drop()
	}
	e.writer.drop()
	return nil
}
