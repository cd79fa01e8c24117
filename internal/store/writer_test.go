package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"

	"taskcluster/internal/clock"
)

// fakeConn is a connection that fails as a test wants.
type fakeConn struct {
	begin, commit error
	bad           string   // a commit fails while this was executed
	executed      []string // in this transaction
	stored        []string
}

func (c *fakeConn) Begin() error { c.executed = nil; return c.begin }
func (c *fakeConn) Commit(string) error {
	if c.commit != nil {
		return c.commit
	}
	if slices.Contains(c.executed, c.bad) {
		return errors.New("a deferred constraint")
	}
	c.stored = append(c.stored, c.executed...)
	return nil
}
func (c *fakeConn) Single() error   { return nil }
func (c *fakeConn) Rollback() error { c.executed = nil; return nil }
func (c *fakeConn) Exec(_ *Stmt, args []Value) (int64, error) {
	c.executed = append(c.executed, args[0].Text)
	return 1, nil
}
func (c *fakeConn) Insert(*Stmt, []Value) (int64, bool, error) {
	return 0, false, errors.ErrUnsupported
}
func (c *fakeConn) Query(*Stmt, []Value) (Cursor, error) { return nil, errors.ErrUnsupported }
func (c *fakeConn) Describe(*Stmt) (int, int, error)     { return 0, 0, errors.ErrUnsupported }
func (c *fakeConn) Script(string) error                  { return errors.ErrUnsupported }

type fakeEngine struct{ conn *fakeConn }

func (e fakeEngine) Dialect() string                      { return SQLite }
func (e fakeEngine) Where() string                        { return "a fake" }
func (e fakeEngine) Writer() Conn                         { return e.conn }
func (e fakeEngine) Reader(context.Context) (Conn, error) { return nil, errors.ErrUnsupported }
func (e fakeEngine) Release(Conn)                         {}

func (e fakeEngine) Rest() {}
func (e fakeEngine) Listen(context.Context, Listener) (bool, error) {
	return false, nil
}
func (e fakeEngine) Close() error { return nil }

var fakePut = SQL(`INSERT INTO fake VALUES (?)`)

// TestCommitFails: nobody is acknowledged whose data is not stored, nobody
// fails for another, and hooks run for those only who are acknowledged.
func TestCommitFails(t *testing.T) {
	full := fmt.Errorf("%w (SQLite: database or disk is full)", ErrDiskFull)
	for name, c := range map[string]struct {
		conn   fakeConn
		failed func(i int) bool
		is     error
	}{
		"disk full at commit":      {fakeConn{commit: full}, func(int) bool { return true }, ErrDiskFull},
		"no transaction can begin": {fakeConn{begin: ErrIO}, func(int) bool { return true }, ErrIO},
		"one breaks the commit":    {fakeConn{bad: "5"}, func(i int) bool { return i == 5 }, nil},
		"nothing fails":            {fakeConn{}, func(int) bool { return false }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Store{engine: fakeEngine{&c.conn}, clock: clock.Real{}, log: slog.New(slog.DiscardHandler)}
			s.writer = &writer{store: s, max: 512, wake: make(chan struct{}, 1), done: make(chan struct{})}
			s.writer.tx = Tx{conn: &c.conn, clock: s.clock}
			ops := make([]*operation, 11)
			var hooks []string
			for i := range ops {
				ops[i] = &operation{fn: func(tx *Tx) error {
					tx.OnCommit(func() { hooks = append(hooks, fmt.Sprint(i)) })
					_, err := tx.Exec(fakePut, fmt.Sprint(i))
					return err
				}}
			}
			s.writer.process(s.writer.group(ops))
			var acknowledged []string
			for i, op := range ops {
				if failed := c.failed(i); failed != (op.err != nil) || failed && c.is != nil && !errors.Is(op.err, c.is) {
					t.Errorf("operation %d: %v", i, op.err)
				}
				if op.err == nil {
					acknowledged = append(acknowledged, fmt.Sprint(i))
				}
			}
			if !slices.Equal(acknowledged, c.conn.stored) || !slices.Equal(acknowledged, hooks) {
				t.Errorf("acknowledged %v, stored %v, hooks %v", acknowledged, c.conn.stored, hooks)
			}
			if n := s.Stats().Operations; n != int64(len(acknowledged)) {
				t.Errorf("%d operations are counted, %d acknowledged", n, len(acknowledged))
			}
		})
	}
}

// slowConn takes as long to begin as a test wants.
type slowConn struct {
	fakeConn
	beginning chan struct{} // receives when one begins
	released  chan struct{} // has it go on
	undone    atomic.Int32
}

func (c *slowConn) Begin() error {
	c.beginning <- struct{}{}
	<-c.released
	return c.fakeConn.Begin()
}

func (c *slowConn) Rollback() error { c.undone.Add(1); return c.fakeConn.Rollback() }

// TestWaitingToBegin: who gets in line while another process writes shares the
// transaction, and who gives up meanwhile has no part in it.
func TestWaitingToBegin(t *testing.T) {
	c := &slowConn{beginning: make(chan struct{}), released: make(chan struct{})}
	s := &Store{engine: slowEngine{fakeEngine{&c.fakeConn}, c}, clock: clock.Real{}, log: slog.New(slog.DiscardHandler)}
	w := newWriter(s, 512)
	defer w.stop()
	put := func(ctx context.Context, text string) chan error {
		answer := make(chan error, 1)
		go func() {
			answer <- w.submit(ctx, nil, func(tx *Tx) error { _, err := tx.Exec(fakePut, text); return err }, nil)
		}()
		return answer
	}
	inLine := func(n int) {
		for {
			w.mu.Lock()
			got := len(w.waiting)
			w.mu.Unlock()
			if got == n {
				return
			}
			runtime.Gosched()
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := put(ctx, "first")
	<-c.beginning
	second := put(t.Context(), "second")
	inLine(2)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	c.released <- struct{}{}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if !slices.Equal(c.stored, []string{"second"}) || s.Stats().Commits != 1 {
		t.Errorf("stored %v in %d commits", c.stored, s.Stats().Commits)
	}
	// All gave up: the transaction is undone, and the next one is another.
	ctx, cancel = context.WithCancel(t.Context())
	first = put(ctx, "first")
	<-c.beginning
	cancel()
	<-first
	c.released <- struct{}{}
	for c.undone.Load() == 0 {
		runtime.Gosched()
	}
	second = put(t.Context(), "third")
	<-c.beginning
	c.released <- struct{}{}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if !slices.Equal(c.stored, []string{"second", "third"}) || c.undone.Load() != 1 {
		t.Errorf("stored %v, %d undone", c.stored, c.undone.Load())
	}
}

type slowEngine struct {
	fakeEngine
	conn *slowConn
}

func (e slowEngine) Writer() Conn { return e.conn }
