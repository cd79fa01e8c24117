package events

import (
	"context"
	"errors"

	"taskcluster/internal/store"
)

// Options of a Log; the zero value works.
type Options struct{}

// Log is the event log in a store.
type Log struct{ store *store.Store }

// NewLog opens the log in a store that was opened with Migrations.
func NewLog(s *store.Store, opts Options) *Log { return &Log{store: s} }

var errSoon = errors.New("events: being written")

// Publish adds an event to the transaction.
func (l *Log) Publish(tx *store.Tx, e Event) {
	tx.BeforeCommit(func(*store.Tx) error { return errSoon })
}

// Read returns up to limit messages after a position, in order.
func (l *Log) Read(ctx context.Context, after Position, limit int) ([]Message, error) {
	return nil, errSoon
}

// Head is the position of the last committed message.
func (l *Log) Head() Position { return 0 }

// Changed is closed at the next commit that publishes.
func (l *Log) Changed() <-chan struct{} { return nil }

// Consume hands the messages that fit the bindings to handle, in order.
func (l *Log) Consume(ctx context.Context, name string, bindings []Binding, handle func(context.Context, Message) error) error {
	return errSoon
}
