package postgres

import (
	"context"
	"fmt"
	"time"

	"taskcluster/internal/store"
)

// outcome tells what became of a transaction whose commit was sent and not
// answered: nil when it is committed. The server that ran it has process pid.
func (c *conn) outcome(xid string, pid uint32) error {
	e := c.engine
	e.log.Warn("the connection to the database was lost during a commit; its outcome is asked for", "transaction", xid)
	deadline := time.Now().Add(e.patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		status, err := c.status(xid, pid)
		switch {
		case err != nil:
			e.log.Warn("the database does not tell the outcome of a commit yet", "transaction", xid, "error", err)
		case status == "committed":
			return nil
		case status == "aborted":
			return store.ErrUnavailable
		case status != "in progress": // it is too long ago, or another server answers
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
func (c *conn) status(xid string, pid uint32) (string, error) {
	if c.pg == nil || c.pg.IsClosed() {
		if err := c.connect(context.Background()); err != nil {
			return "", err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	result := c.pg.ExecParams(ctx, `SELECT pg_xact_status(CAST(CAST($1 AS TEXT) AS xid8))`, [][]byte{[]byte(xid)}, nil, nil, nil).Read()
	if result.Err != nil {
		return "", c.fail(result.Err)
	}
	status := string(result.Rows[0][0])
	if status == "in progress" {
		text := fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %d AND backend_xid IS NOT NULL AND usename = current_user", pid)
		if _, err := c.pg.Exec(ctx, text).ReadAll(); err != nil {
			return "", c.fail(err)
		}
	}
	return status, nil
}
