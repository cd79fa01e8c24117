package events

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// Options of a Log; the zero value works.
type Options struct {
	Clock clock.Clock  // the machine's clock when nil
	Log   *slog.Logger // nothing is logged when nil
	// Tracer makes a span of each message that is handled; none when nil.
	Tracer trace.Tracer

	// Attempts is how often a message is handed to a consumer that fails
	// before it becomes a dead letter; 10 when zero.
	Attempts int
	// Backoff is the pause after the first failure, doubled after each
	// further one up to MaxBackoff; 1 s and 1 min when zero.
	Backoff, MaxBackoff time.Duration
	// Retention is how long a message is kept at least; it stays longer while
	// a durable consumer has not come past it, but no longer than HardCap.
	// 24 hours and 14 days when zero.
	Retention, HardCap time.Duration
}

func (o *Options) fill() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Attempts <= 0 {
		o.Attempts = 10
	}
	set(&o.Backoff, time.Second)
	set(&o.MaxBackoff, time.Minute)
	set(&o.Retention, 24*time.Hour)
	set(&o.HardCap, 14*24*time.Hour)
}

// Log is the event log in a store. Its methods are safe for concurrent use.
type Log struct {
	store  *store.Store
	opts   Options
	broken error // the log could not be read when it was opened

	head    atomic.Int64
	stale   chan struct{} // holds a token when other processes may have published
	spare   *collected    // used by the writer only
	origins origins

	mu        sync.Mutex
	changed   chan struct{}        // made when somebody asks
	replays   int64                // grows with each Replay
	consumers map[string]*consumer // those that run
	losing    map[string]int64     // from whom the last Trim has taken events
}

var logStmt = struct{ insert, read, last, extent *store.Stmt }{
	// One process writes at a time, so rows become visible in the order of their
	// numbers and a reader never overtakes one.
	insert: store.SQL(`INSERT INTO events_log (time, events) VALUES (?, ?) RETURNING id`),
	read:   store.SQL(`SELECT id, time, events FROM events_log WHERE id >= ? ORDER BY id LIMIT ?`),
	last:   store.SQL(`SELECT id, events FROM events_log ORDER BY id DESC LIMIT 1`),
	extent: store.SQL(`SELECT COALESCE(min(id), 0), COALESCE(max(id), 0) FROM events_log`),
}

// PerRow is the number of positions in a row, which is what one commit publishes.
const PerRow = 1 << 16

func position(row int64, index int) Position { return Position(row*PerRow + int64(index)) }

func (p Position) row() int64 { return int64(p) / PerRow }

// NewLog opens the log in a store that was opened with Migrations. When the
// log cannot be read, every method that returns an error returns that one.
func NewLog(s *store.Store, opts Options) *Log {
	opts.fill()
	l := &Log{store: s, opts: opts, consumers: map[string]*consumer{}, stale: make(chan struct{}, 1)}
	s.Watch(headTopic, l.heard)
	s.Watch(replayTopic, l.replayed)
	if l.broken = l.refresh(context.Background()); l.broken != nil {
		l.broken = fmt.Errorf("the event log cannot be opened: %w", l.broken)
		opts.Log.Error(l.broken.Error())
	}
	return l
}

// collected are the events of one transaction.
type collected struct {
	log  *Log
	full [][]byte // rows that have all the events that a row may have
	row  encoder  // the last one
	head Position
}

// Limits of an event, in bytes.
const (
	MaxPayload  = 16 << 20
	MaxExchange = 255
	MaxCC       = 10_000 // number of CC keys
)

// Publish adds an event to the transaction. All events of one transaction
// become one row, written just before the commit. Payload must not be changed
// until then. An event beyond the limits, or without exchange, makes the
// transaction fail.
func (l *Log) Publish(tx *store.Tx, e Event) {
	c := tx.Local(l, func() any {
		c := l.spare
		l.spare = nil
		if c == nil {
			c = &collected{log: l}
		}
		c.full, c.head = nil, 0
		c.row.reset()
		tx.BeforeCommit(c.write)
		return c
	}).(*collected)
	if err := e.check(); err != nil {
		tx.BeforeCommit(func(*store.Tx) error { return err })
		return
	}
	if c.row.count == PerRow {
		c.full = append(c.full, c.row.buf)
		c.row = encoder{}
		c.row.reset()
	}
	c.row.add(&e)
}

func (e *Event) check() error {
	if e.Exchange == "" || len(e.Exchange) > MaxExchange || len(e.Key) > MaxKey || len(e.CC) > MaxCC || len(e.Payload) > MaxPayload {
		return fmt.Errorf("an event of exchange %.50q has no exchange name or one, a key, a number of CC keys or a payload beyond the limit", e.Exchange)
	}
	for _, cc := range e.CC {
		if len(cc) > MaxKey {
			return fmt.Errorf("an event of exchange %q has a CC key of %d bytes, %d are allowed", e.Exchange, len(cc), MaxKey)
		}
	}
	return nil
}

func (c *collected) write(tx *store.Tx) error {
	if c.log.broken != nil {
		return c.log.broken
	}
	if c.row.count == 0 {
		return nil
	}
	var row int64
	for _, encoded := range append(c.full, c.row.buf) {
		if err := tx.Row(logStmt.insert, tx.Now(), encoded).Scan(&row); err != nil {
			return err
		}
	}
	c.head = position(row, c.row.count-1)
	c.published(tx.Span())
	tx.OnCommit(c.committed)
	tx.Signal(headTopic, strconv.FormatInt(int64(c.head), 10))
	return nil
}

// committed runs in the writer, which is the only one to touch spare.
func (c *collected) committed() {
	l := c.log
	l.advance(c.head)
	c.full = nil
	if cap(c.row.buf) <= 1<<20 {
		l.spare = c
	}
}

// notify wakes those who wait for Changed.
func (l *Log) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// Changed returns a channel that is closed at the next commit that publishes.
// To miss nothing, ask for it before reading. (It may also be closed without
// a new message.)
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// Head is the position of the last committed message, 0 when there is none.
func (l *Log) Head() Position { return Position(l.head.Load()) }

// Read returns at most readBytes, unless one row has more. The first firstRows
// rows tell how large rows are, and so how many more to ask for.
const (
	readBytes = MaxPayload
	firstRows = 257
)

// Read returns up to limit messages whose position is greater than after, in
// order, and fewer when they are large; none only when there are none. Messages
// that were trimmed are left out.
func (l *Log) Read(ctx context.Context, after Position, limit int) ([]Message, error) {
	if l.broken != nil {
		return nil, l.broken
	}
	r := reading{after: after, limit: limit}
	for from, rows := after.row(), min(limit+1, firstRows); rows > 0; { // one more, for the first may hold nothing after the position
		chunk := r
		if err := l.store.ReadOne(ctx, func(tx *store.Tx) error {
			chunk = r
			return chunk.take(tx.Query(logStmt.read, from, rows))
		}); err != nil {
			return nil, err
		}
		got := chunk.rows - r.rows
		r = chunk
		if got < rows || r.full() {
			break
		}
		from = r.last + 1
		rows = min(limit-len(r.messages), (readBytes-r.bytes)/(r.bytes/r.rows)+1)
	}
	return r.messages, nil
}

// reading is what was read of the log.
type reading struct {
	after Position
	limit int

	messages []Message
	rows     int // so many
	bytes    int // in so many bytes
	last     int64
}

// full tells whether no more is wanted.
func (r *reading) full() bool {
	return len(r.messages) >= r.limit || r.bytes >= readBytes && len(r.messages) > 0
}

// take reads rows until there is enough.
func (r *reading) take(rows *store.Rows) error {
	defer rows.Close()
	for !r.full() && rows.Next() {
		var at clock.Time
		var encoded []byte
		if err := rows.Scan(&r.last, &at, &encoded); err != nil {
			return err
		}
		events, err := decode(encoded)
		if err != nil {
			return fmt.Errorf("row %d: %w", r.last, err)
		}
		r.rows++
		r.bytes += len(encoded)
		for i := range events {
			if p := position(r.last, i); p > r.after && len(r.messages) < r.limit {
				r.messages = append(r.messages, Message{Event: events[i], Position: p, Time: at})
			}
		}
	}
	return rows.Err()
}

// Extent tells what can be read now: who has come as far as complete, or further,
// has missed nothing that was trimmed; newest is the last position that the
// newest row can have. In PostgreSQL, where numbers of rows may be left out,
// complete can be later than it need be.
func (l *Log) Extent(ctx context.Context) (complete, newest Position, err error) {
	if l.broken != nil {
		return 0, 0, l.broken
	}
	err = l.store.ReadOne(ctx, func(tx *store.Tx) error {
		var first, last int64
		if err := tx.Row(logStmt.extent).Scan(&first, &last); err != nil || last == 0 {
			return err
		}
		complete, newest = position(first-1, 0), position(last, PerRow-1)
		return nil
	})
	return complete, newest, err
}
