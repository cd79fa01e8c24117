package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"taskcluster/internal/store"
)

// conn is one connection, made at its first transaction and again after it was
// lost. It speaks the extended protocol with prepared statements and binary
// values through pgconn, without pgx's type map in between.
type conn struct {
	engine     *engine
	writes     bool
	pg         *pgconn.PgConn // nil or closed: to be made
	statements map[*store.Stmt]*pgconn.StatementDescription
	xid        string // the running transaction, of the writer
	life       string // of the server, see setUp

	active *cursor // reads from the connection
	spare  []*cursor
	args   arguments

	sent    []*store.Stmt // statements in pending
	pending pgconn.Batch  // travels with the next statement
}

func newConn(e *engine, writes bool) *conn { return &conn{engine: e, writes: writes} }

// What a transaction begins with. The writer asks for the transaction's number,
// by which its outcome can be asked for when the answer to the commit is lost.
const (
	beginWrite = `BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock(%d, %d), CAST(pg_current_xact_id() AS TEXT)`
	beginRead  = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`

	// writeLock is the first number of the lock of writing transactions; the
	// second stands for the schema. It is arbitrary.
	writeLock = 1684890953
)

// setUp puts the session right and tells what the server is. A server that
// answers commits before they are on disk, or compiles statements, is set up
// for something else. Times are in milliseconds.
//
// Statements walk indexes, as on SQLite, and none is planned anew with each use.
// A plan that was made while a table was empty must not read all of it later.
//
// A server that crashes forgets the numbers of transactions that were not on
// disk, and gives them again. It begins its statistics anew then, and another
// one that takes its place begins a new timeline: these two stand for its life.
const setUp = `SELECT set_config('jit', 'off', false), set_config('plan_cache_mode', 'force_generic_plan', false),
		set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false),
		set_config('statement_timeout', '%d', false), set_config('idle_in_transaction_session_timeout', '%d', false),
		set_config('default_transaction_read_only', '%s', false);
	SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
	SELECT current_setting('server_version_num'), current_setting('server_version'), current_setting('server_encoding'),
		CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) || ' ' || stats_reset END FROM pg_stat_bgwriter`

func (c *conn) connect(ctx context.Context) error {
	c.drop()
	ctx, cancel := context.WithTimeout(ctx, c.engine.config.ConnectTimeout)
	defer cancel()
	pg, err := pgconn.ConnectConfig(ctx, c.engine.config)
	if err != nil {
		return c.engine.unreachable(err)
	}
	e, readOnly := c.engine, "off"
	idle := e.idle
	if !c.writes { // nobody waits for it
		readOnly, idle = "on", 12*e.idle
	}
	results, err := pg.Exec(ctx, fmt.Sprintf(setUp, e.answer.Milliseconds(), idle.Milliseconds(), readOnly)).ReadAll()
	var server [][]byte
	if err == nil {
		server = results[len(results)-1].Rows[0]
		err = c.engine.check(server)
	} else {
		err = c.engine.unreachable(err)
	}
	if err != nil {
		closing, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		pg.Close(closing)
		return err
	}
	c.pg, c.statements, c.life = pg, map[*store.Stmt]*pgconn.StatementDescription{}, string(server[3])
	return nil
}

// check refuses a server that the store's promises do not hold on.
func (e *engine) check(row [][]byte) error {
	number, err := strconv.Atoi(string(row[0]))
	if err != nil || number < MinVersion {
		return fmt.Errorf("%s runs version %s, and version %d is the oldest that works: upgrade it", e.Where(), row[1], MinVersion/10000)
	}
	if encoding := string(row[2]); encoding != "UTF8" {
		return fmt.Errorf("%s has the encoding %s: make a database with ENCODING 'UTF8'", e.Where(), encoding)
	}
	return nil
}

// drop ends the connection. A transaction that runs on it is undone by the server.
func (c *conn) drop() {
	c.active, c.statements = nil, nil
	c.forget()
	if c.pg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		c.pg.Close(ctx) // its error tells that it was lost already
		c.pg = nil
	}
}

// Begin implements store.Conn. A connection that was lost since the last
// transaction has cost nobody anything, so it is made again without a word.
func (c *conn) Begin() error {
	if c.pg != nil && !c.pg.IsClosed() && c.pg.TxStatus() == 'I' {
		err := c.start()
		if err == nil || c.pg != nil {
			return err
		}
	}
	if err := c.connect(context.Background()); err != nil {
		return err
	}
	return c.start()
}

func (c *conn) start() error {
	script := beginRead
	if c.writes {
		script = fmt.Sprintf(beginWrite, writeLock, c.engine.schema)
	}
	c.arm()
	results, err := c.pg.Exec(context.Background(), script).ReadAll()
	if err != nil {
		err = c.fail(err)
		return errors.Join(err, c.Rollback())
	}
	if c.writes {
		c.xid = string(results[1].Rows[0][1])
	}
	return nil
}

// Single implements store.Conn.
func (c *conn) Single() error {
	if c.pg != nil && !c.pg.IsClosed() && c.pg.TxStatus() == 'I' {
		return nil
	}
	return c.connect(context.Background())
}

// arm gives the server time for its next answer.
func (c *conn) arm() {
	c.pg.Conn().SetDeadline(time.Now().Add(c.engine.answer + c.engine.answer/5)) // its error shows in what follows
}

// Commit implements store.Conn.
func (c *conn) Commit(notice string) error {
	if c.pg == nil {
		return store.ErrUnavailable
	}
	if err := c.detach(); err != nil {
		return err
	}
	tag, err := c.end(notice)
	if err == nil {
		if tag != "COMMIT" {
			return fmt.Errorf("PostgreSQL answered COMMIT with %s: a statement of the transaction had failed", tag)
		}
		return nil
	}
	sent := transaction{c.xid, c.pg.PID(), c.life}
	err = c.fail(err)
	if c.pg != nil || !c.writes {
		return err
	}
	return c.outcome(sent)
}

// Rollback implements store.Conn. A connection on which it fails is given up,
// which undoes the transaction as well.
func (c *conn) Rollback() error {
	if c.pg == nil {
		return nil
	}
	c.forget()
	if c.active != nil {
		c.active.Close()
	}
	if c.pg == nil || c.pg.IsClosed() || c.pg.TxStatus() == 'I' {
		return nil
	}
	c.arm()
	if _, err := c.pg.Exec(context.Background(), "ROLLBACK").ReadAll(); err != nil {
		c.drop()
	}
	return nil
}

// Exec implements store.Conn.
func (c *conn) Exec(q *store.Stmt, args []store.Value) (int64, error) {
	if len(c.sent) > 0 {
		if err := c.Send(q, args); err != nil {
			return 0, err
		}
		return c.flush(nil)
	}
	rows, _, err := c.run(q, args)
	if err != nil {
		return 0, err
	}
	tag, err := rows.Close()
	if err != nil {
		return 0, c.fail(err)
	}
	if tag.Select() {
		return 0, nil
	}
	return tag.RowsAffected(), nil
}

// Insert implements store.Conn.
func (c *conn) Insert(q *store.Stmt, args []store.Value) (id int64, ok bool, err error) {
	cursor, err := c.Query(q, args)
	if err != nil {
		return 0, false, err
	}
	defer cursor.Close()
	if ok, err = cursor.Next(); !ok {
		return 0, false, err
	}
	id = cursor.Column(0).Int
	_, err = cursor.Next() // there is no further row, but there may be an error
	return id, err == nil, err
}

// Query implements store.Conn.
func (c *conn) Query(q *store.Stmt, args []store.Value) (store.Cursor, error) {
	if len(c.sent) > 0 {
		if err := c.Send(q, args); err != nil {
			return nil, err
		}
		return c.collect(q, len(c.sent)-1)
	}
	rows, fields, err := c.run(q, args)
	if err != nil {
		return nil, err
	}
	cursor := c.newCursor()
	cursor.rows, cursor.fields = rows, fields
	c.active = cursor
	return cursor, nil
}

// formats says that all values are in binary format.
var formats = []int16{1}

// prepared frees the connection and prepares a statement at its first use.
func (c *conn) prepared(q *store.Stmt) (*pgconn.StatementDescription, error) {
	if c.pg == nil {
		return nil, store.ErrUnavailable
	}
	if err := c.detach(); err != nil {
		return nil, err
	}
	c.arm()
	described := c.statements[q]
	if described == nil {
		var err error
		name := "s" + strconv.Itoa(len(c.statements)+1)
		if described, err = c.pg.Prepare(context.Background(), name, q.Text(store.Postgres), nil); err != nil {
			return nil, c.fail(err)
		}
		c.statements[q] = described
	}
	return described, nil
}

// run sends a statement.
func (c *conn) run(q *store.Stmt, args []store.Value) (*pgconn.ResultReader, []pgconn.FieldDescription, error) {
	described, err := c.prepared(q)
	if err != nil {
		return nil, nil, err
	}
	values, err := c.args.encode(args, described.ParamOIDs)
	if err != nil {
		return nil, nil, err
	}
	rows := c.pg.ExecStatement(context.Background(), described, values, formats, formats)
	c.args.release()
	return rows, described.Fields, nil
}

// Describe implements store.Conn.
func (c *conn) Describe(q *store.Stmt) (params, columns int, err error) {
	if c.pg == nil || c.pg.IsClosed() {
		if err := c.connect(context.Background()); err != nil {
			return 0, 0, err
		}
	}
	described, err := c.pg.Prepare(context.Background(), "", q.Text(store.Postgres), nil)
	if err != nil {
		return 0, 0, c.fail(err)
	}
	return len(described.ParamOIDs), len(described.Fields), nil
}

// Script implements store.Conn. It takes the time that it takes: it is for
// migrations.
func (c *conn) Script(text string) error {
	if c.pg == nil {
		return store.ErrUnavailable
	}
	if err := c.detach(); err != nil {
		return err
	}
	c.pg.Conn().SetDeadline(time.Time{})
	if _, err := c.pg.Exec(context.Background(), "SET LOCAL statement_timeout = 0;"+text).ReadAll(); err != nil {
		return c.fail(err)
	}
	return nil
}

// fail makes an error of the store, and gives the connection up when it is of
// no use any more: c.pg is nil then.
func (c *conn) fail(err error) error {
	err, lost := classify(err)
	if lost || c.pg.IsClosed() {
		c.drop()
		if !errors.Is(err, store.ErrUnavailable) {
			err = fmt.Errorf("%w (%w)", store.ErrUnavailable, err)
		}
	}
	return err
}
