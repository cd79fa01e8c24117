package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"taskcluster/internal/store"
)

// transaction is one whose commit was sent and not answered.
type transaction struct {
	xid  string
	pid  uint32 // of the server's process that ran it
	life string // of the server, see setUp
}

// outcome tells what became of a transaction: nil when it is committed. In
// another life of the server its number may be that of another one; only if that
// one is committed, too, can they not be told apart.
func (c *conn) outcome(sent transaction) error {
	e := c.engine
	e.log.Warn("the connection to the database was lost during a commit; its outcome is asked for", "transaction", sent.xid)
	deadline := time.Now().Add(e.patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		status, err := c.status(sent)
		same := c.life == sent.life
		switch {
		case err != nil:
			e.log.Warn("the database does not tell the outcome of a commit yet", "transaction", sent.xid, "error", err)
		case status == "committed" && same:
			return nil
		case status == "aborted", status == "not given", status == "in progress" && !same:
			return store.ErrUnavailable
		case status != "in progress": // it is too long ago, or cannot be told
			return store.ErrOutcomeUnknown
		}
		if time.Now().Add(pause).After(deadline) {
			return store.ErrOutcomeUnknown
		}
		time.Sleep(pause)
	}
}

// status asks for the state of a transaction over a new connection. A server
// process that is still at it may wait for a client that is gone, and is ended.
func (c *conn) status(sent transaction) (string, error) {
	if c.pg == nil || c.pg.IsClosed() {
		if err := c.connect(context.Background()); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	result := c.pg.ExecParams(ctx, `SELECT pg_xact_status(CAST(CAST($1 AS TEXT) AS xid8))`, [][]byte{[]byte(sent.xid)}, nil, nil, nil).Read()
	var pe *pgconn.PgError
	if errors.As(result.Err, &pe) && pe.Code == "22023" { // invalid_parameter_value: it is in the future
		return "not given", nil
	}
	if result.Err != nil {
		return "", c.fail(result.Err)
	}
	status := string(result.Rows[0][0])
	if status == "in progress" && c.life == sent.life {
		text := fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %d AND backend_xid IS NOT NULL AND usename = current_user", sent.pid)
		if _, err := c.pg.Exec(ctx, text).ReadAll(); err != nil {
			return "", c.fail(err)
		}
	}
	return status, nil
}
