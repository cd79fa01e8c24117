// Package events is the event log: messages that services publish in the
// transaction that causes them, and consume by cursor, at least once.
//
// All events of one commit are one row of the table; reading it in order gives
// every message, in the order of the commits. Consumers are woken by commits
// and do not poll. A message that a consumer fails to handle again and again
// goes to a table of dead letters, where an operator sees and replays it.
package events

import (
	"embed"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// Event is a message to be published.
type Event struct {
	Exchange string   // in full: "exchange/taskcluster-queue/v1/task-defined"
	Key      string   // the routing key
	CC       []string // further routing keys, as "route.index.a.b"
	Payload  []byte   // JSON
}

// Position is the place of a message in the log. It grows; 0 is before
// everything. It is the row's number times 65,536 plus the place in the row.
type Position int64

// Message is a published event.
type Message struct {
	Event
	Position    Position
	Time        clock.Time // of the commit
	Redelivered bool       // this consumer may have seen it before
}

// Binding selects the messages of an exchange whose routing key, or one of
// whose CC keys, matches the pattern.
type Binding struct {
	Exchange, Pattern string
}

//go:embed migrations
var migrationFS embed.FS

// Migrations makes the tables of the log.
var Migrations = store.Migrations{Component: "events", FS: migrationFS}
