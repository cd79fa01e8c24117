package api

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations is the schema of the audit rows that methods leave.
func Migrations() store.Migrations {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is compiled in
	}
	return store.Migrations{Component: "api", FS: sub}
}

// AuditEntry is one mutating call.
type AuditEntry struct {
	Time     clock.Time        `json:"time"`
	Service  string            `json:"service"`
	Method   string            `json:"method"`
	Params   map[string]string `json:"params,omitempty"`
	ClientID string            `json:"clientId"`
	SourceIP string            `json:"sourceIp,omitempty"`
}

// auditKey is where a transaction collects its entries.
type auditKey struct{}

type auditBatch struct{ entries []AuditEntry }

// Statements are the statements of this package, for the test that prepares
// them on every engine.
func Statements() []*store.Stmt { return store.Statements(stmt) }

var stmt = struct{ insertAudit, trimAudit *store.Stmt }{
	insertAudit: store.SQL(`INSERT INTO api_audit (at, entries) VALUES (?, ?)`),
	trimAudit: store.SQL(`
		DELETE FROM api_audit WHERE id IN (
			SELECT id FROM api_audit WHERE at < ? ORDER BY at LIMIT ?)`),
}

// Audit leaves an audit row for this call in the transaction that does what the
// call asks for. All calls of one commit share a row.
func (c *Call) Audit(tx *store.Tx) { c.AuditParams(tx, c.paramsMap()) }

// AuditParams is Audit with parameters that the URL does not tell. The map must
// not change afterwards.
func (c *Call) AuditParams(tx *store.Tx, params map[string]string) {
	batch := tx.Local(auditKey{}, func() any {
		b := &auditBatch{}
		tx.BeforeCommit(b.write)
		return b
	}).(*auditBatch)
	batch.entries = append(batch.entries, AuditEntry{
		Time: tx.Now(), Service: c.method.service.Name, Method: c.method.Name, Params: params,
		ClientID: c.ClientID(), SourceIP: c.SourceIP(),
	})
}

func (b *auditBatch) write(tx *store.Tx) error {
	text, err := json.Marshal(b.entries)
	if err != nil {
		return err
	}
	_, err = tx.Exec(stmt.insertAudit, tx.Now(), text)
	return err
}

// AuditRetention is how long audit rows are kept.
const AuditRetention = 30 * 24 * time.Hour

// trimRows is the number of rows removed in one transaction.
const trimRows = 500

// TrimAudit removes audit rows older than AuditRetention, now and then every
// hour, until ctx ends.
func TrimAudit(ctx context.Context, s *store.Store) error {
	return s.Repeat(ctx, "api/audit", time.Hour, func(ctx context.Context) error { return trimAudit(ctx, s) })
}

func trimAudit(ctx context.Context, s *store.Store) error {
	for {
		var n int64
		err := s.Write(ctx, func(tx *store.Tx) (err error) {
			n, err = tx.Exec(stmt.trimAudit, tx.Now().Add(-AuditRetention), trimRows)
			return err
		})
		if err != nil || n < trimRows {
			return err
		}
	}
}
