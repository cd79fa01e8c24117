package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"taskcluster/internal/store"
)

const (
	// listenAgain is the pause between attempts to listen again.
	listenAgain = time.Second
	// pulse is how often the server has to show that it still tells us, when nobody
	// asks.
	pulse = 10 * time.Second
)

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
func (e *engine) Listen(ctx context.Context, l store.Listener) (shared bool, err error) {
	pg, err := e.listen(ctx, l.Heard)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	e.listening = listener{cancel, make(chan struct{})}
	go func() {
		defer close(e.listening.done)
		for {
			e.hear(ctx, pg, l)
			if ctx.Err() != nil {
				return
			}
			e.log.Warn("the connection that hears of other processes' changes was lost and is made again")
			for l.Lost(); ; l.Lost() {
				if pg, err = e.listen(ctx, l.Heard); err == nil {
					break
				}
				select {
				case <-time.After(listenAgain):
				case <-ctx.Done():
					return
				}
			}
			l.Lost() // once more, for what happened since
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
	if err := e.subscribe(ctx, pg); err != nil {
		shut(pg)
		return nil, e.unreachable(err)
	}
	return pg, nil
}

// subscribe begins to listen, or goes on. The server sends the notices of what
// was committed before ahead of its answer.
func (e *engine) subscribe(ctx context.Context, pg *pgconn.PgConn) error {
	return pg.Exec(ctx, "LISTEN "+e.channel).Close()
}

// hear waits for notices until ctx ends or the connection does. A network or
// a server that fell silent is noticed by the pulse.
func (e *engine) hear(ctx context.Context, pg *pgconn.PgConn, l store.Listener) {
	defer shut(pg)
	for {
		began := time.Now()
		asking, cancel := context.WithTimeout(ctx, e.answer)
		err := e.subscribe(asking, pg)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				e.log.Debug("listening ended", "error", cause(err))
			}
			return
		}
		l.Sure(began)
		waiting, cancel := context.WithTimeout(ctx, pulse)
		asked := make(chan struct{})
		go func() {
			defer close(asked)
			select {
			case <-l.Asked:
				cancel()
			case <-waiting.Done():
			}
		}()
		for err == nil {
			err = pg.WaitForNotification(waiting)
		}
		cancel() // if it was neither the time that ended nor somebody who asked, the next question fails
		<-asked
	}
}

func shut(pg *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	pg.Close(ctx) // its error tells that it was lost already
}
