package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// listenAgain is the pause between attempts to listen again.
const listenAgain = time.Second

// listener is the connection that hears notices.
type listener struct {
	cancel context.CancelFunc // nil when nobody listens
	done   chan struct{}
}

func (l *listener) stop() {
	if l.cancel != nil {
		l.cancel()
		<-l.done
	}
}

// findSchema finds what stands for the schema in the channel's name and in
// locks: deployments that share a database by schemas do not meet each other.
func (e *engine) findSchema(ctx context.Context) error {
	const schema = `SELECT COALESCE((SELECT oid FROM pg_namespace WHERE nspname = current_schema()), 0)`
	results, err := e.writer.pg.Exec(ctx, schema).ReadAll()
	if err != nil {
		return e.writer.fail(err)
	}
	oid, err := strconv.ParseUint(string(results[0].Rows[0][0]), 10, 32)
	e.schema, e.channel = int32(oid), fmt.Sprintf("taskcluster_%d", oid)
	return err
}

// quote writes a string constant that means the same however the server is set.
func quote(text string) string {
	return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'"
}

// Listen implements store.Engine.
func (e *engine) Listen(ctx context.Context, heard func(notice string), lost func()) (shared bool, err error) {
	pg, err := e.listen(ctx, heard)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.listening = listener{cancel, make(chan struct{})}
	go func() {
		defer close(e.listening.done)
		for {
			e.hear(ctx, pg)
			if ctx.Err() != nil {
				return
			}
			e.log.Warn("the connection that hears of other processes' changes was lost and is made again")
			for lost(); ; lost() {
				if pg, err = e.listen(ctx, heard); err == nil {
					break
				}
				select {
				case <-time.After(listenAgain):
				case <-ctx.Done():
					return
				}
			}
			lost() // once more, for what happened since
			e.log.Info("the connection that hears of other processes' changes is back")
		}
	}()
	return true, nil
}

// listen makes a connection and begins to listen on it.
func (e *engine) listen(ctx context.Context, heard func(notice string)) (*pgconn.PgConn, error) {
	config := e.config.Copy()
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if n.Channel == e.channel {
			heard(n.Payload)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, config.ConnectTimeout)
	defer cancel()
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, e.unreachable(err)
	}
	if _, err := pg.Exec(ctx, "LISTEN "+e.channel).ReadAll(); err != nil {
		shut(pg)
		return nil, e.unreachable(err)
	}
	return pg, nil
}

// hear waits for notices until ctx ends or the connection does.
func (e *engine) hear(ctx context.Context, pg *pgconn.PgConn) {
	defer shut(pg)
	for {
		if err := pg.WaitForNotification(ctx); err != nil {
			if ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				e.log.Debug("listening ended", "error", cause(err))
			}
			return
		}
	}
}

func shut(pg *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	pg.Close(ctx) // its error tells that it was lost already
}
