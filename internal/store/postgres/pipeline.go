package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"taskcluster/internal/store"
)

var _ store.Pipeliner = (*conn)(nil)

// Send implements store.Pipeliner.
func (c *conn) Send(q *store.Stmt, args []store.Value) error {
	described, err := c.prepared(q)
	if err != nil {
		return err
	}
	return c.add(q, described, args)
}

// add puts a statement into the batch that travels next.
func (c *conn) add(q *store.Stmt, described *pgconn.StatementDescription, args []store.Value) error {
	values, err := c.args.encode(args, described.ParamOIDs)
	if err != nil {
		return err
	}
	c.pending.ExecStatement(described, values, formats, formats)
	c.sent = append(c.sent, q)
	c.args.release()
	return nil
}

// forget drops what was not sent yet.
func (c *conn) forget() {
	clear(c.sent)
	c.sent, c.pending = c.sent[:0], pgconn.Batch{}
}

// flush sends the batch and waits for its end. each, if it is not nil, gets the
// result of every statement. changed is the number of rows that the last one
// changed.
func (c *conn) flush(each func(i int, result *pgconn.ResultReader)) (changed int64, err error) {
	c.arm()
	results := c.pg.ExecBatch(context.Background(), &c.pending)
	done := 0
	for results.NextResult() {
		result := results.ResultReader()
		if each != nil {
			each(done, result)
		}
		tag, failed := result.Close()
		if failed != nil {
			break
		}
		done++
		if changed = 0; !tag.Select() {
			changed = tag.RowsAffected()
		}
	}
	if err = results.Close(); err != nil {
		culprit := ""
		if done < len(c.sent)-1 { // the caller names the last
			culprit = c.sent[done].String()
		}
		if err = c.fail(err); culprit != "" {
			err = fmt.Errorf("%w (in: %s)", err, culprit)
		}
	}
	c.forget()
	return changed, err
}

// collect sends the batch and keeps the rows of those statements whose place in
// it is first or later.
func (c *conn) collect(q *store.Stmt, first int) (store.Cursor, error) {
	cursor := c.newCursor()
	cursor.fields = c.statements[q].Fields
	_, err := c.flush(func(i int, result *pgconn.ResultReader) {
		for i >= first && result.NextRow() {
			cursor.rest = append(cursor.rest, clone(result.Values()))
		}
	})
	if err != nil {
		cursor.Close()
		return nil, err
	}
	return cursor, nil
}

// many puts a statement for many rows of arguments into the batch.
func (c *conn) many(q *store.Stmt, rows int, args []store.Value) (err error) {
	described, err := c.prepared(q)
	if err != nil {
		return err
	}
	if q.IsEach() {
		values, err := c.args.encodeArrays(args, rows, described.ParamOIDs)
		if err != nil {
			return err
		}
		c.pending.ExecStatement(described, values, formats, formats)
		c.sent = append(c.sent, q)
		return nil
	}
	width := len(args) / rows
	for i := range rows {
		if err := c.add(q, described, args[i*width:(i+1)*width]); err != nil {
			return err
		}
	}
	return nil
}

// ExecMany implements store.Pipeliner.
func (c *conn) ExecMany(q *store.Stmt, rows int, args []store.Value) (changed int64, err error) {
	first := len(c.sent)
	if err := c.many(q, rows, args); err != nil {
		return 0, err
	}
	_, err = c.flush(func(i int, result *pgconn.ResultReader) {
		if tag, _ := result.Close(); i >= first && !tag.Select() {
			changed += tag.RowsAffected()
		}
	})
	return changed, err
}

// SendMany implements store.Pipeliner.
func (c *conn) SendMany(q *store.Stmt, rows int, args []store.Value) error {
	return c.many(q, rows, args)
}

// QueryMany implements store.Pipeliner.
func (c *conn) QueryMany(q *store.Stmt, rows int, args []store.Value) (store.Cursor, error) {
	first := len(c.sent)
	if err := c.many(q, rows, args); err != nil {
		return nil, err
	}
	return c.collect(q, first)
}

// end commits, with what was sent and a notice.
func (c *conn) end(notice string) (tag string, err error) {
	c.arm()
	if len(c.sent) == 0 {
		script := "COMMIT"
		if notice != "" {
			script = "NOTIFY " + c.engine.channel + ", " + quote(notice) + "; COMMIT"
		}
		results, err := c.pg.Exec(context.Background(), script).ReadAll()
		if err != nil {
			return "", err
		}
		return results[len(results)-1].CommandTag.String(), nil
	}
	if notice != "" {
		c.pending.ExecParams("SELECT pg_notify($1, $2)", [][]byte{[]byte(c.engine.channel), []byte(notice)}, nil, nil, nil)
	}
	c.pending.ExecParams("COMMIT", nil, nil, nil, nil)
	results, done := c.pg.ExecBatch(context.Background(), &c.pending), 0
	for results.NextResult() {
		ended, failed := results.ResultReader().Close()
		if failed != nil {
			break
		}
		done++
		tag = ended.String()
	}
	if err = results.Close(); err != nil && done < len(c.sent) {
		err = fmt.Errorf("%w (in: %s)", err, c.sent[done])
	}
	c.forget()
	return tag, err
}
