package pulse

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations makes the tables of the service.
func Migrations() store.Migrations {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	return store.Migrations{Component: "pulse", FS: sub}
}

const columns = `id, namespace, created, expires, contact, active, password, behind, next_rotation, removing`

// Whatever is decided on a row that was read before says in its WHERE what the
// row was: sealed, a password is never the same twice.
var stmt = struct {
	get, list, claims, insert, renew                *store.Stmt
	rotate, brought, overtaken, missing             *store.Stmt
	giveUp, due, expired, hide, remove, page        *store.Stmt
	states, setState, normal, oldStates             *store.Stmt
	count, addMail, dueMails, sent, later, oldMails *store.Stmt
	figures, waitingMails                           *store.Stmt
}{
	get:    store.SQL(`SELECT ` + columns + ` FROM pulse_namespaces WHERE namespace = ?`),
	list:   store.SQL(`SELECT namespace, created, expires FROM pulse_namespaces WHERE namespace > ? ORDER BY namespace LIMIT ?`),
	claims: store.SQL(`SELECT count(*), COALESCE(sum(CASE WHEN claimed_by = ? THEN 1 ELSE 0 END), 0) FROM pulse_namespaces`),
	insert: store.SQL(`INSERT INTO pulse_namespaces (namespace, created, expires, contact, active, password, behind, next_rotation, removing, claimed_by)
		VALUES (?, ?, ?, ?, 1, ?, ?, ?, 0, ?)`),
	renew:  store.SQL(`UPDATE pulse_namespaces SET expires = ?, contact = ? WHERE id = ?`),
	rotate: store.SQL(`UPDATE pulse_namespaces SET active = 3 - active, password = ?, behind = 1 WHERE id = ? AND password = ? AND behind = 0 AND removing = 0`),
	brought: store.SQL(`UPDATE pulse_namespaces SET behind = 0, next_rotation = ?
		WHERE id = ? AND password = ? AND behind = ? AND removing = 0`),
	overtaken: store.SQL(`UPDATE pulse_namespaces SET behind = ?, next_rotation = ?
		WHERE id = ? AND password <> ? AND behind = 0 AND removing = 0`),
	missing: store.SQL(`UPDATE pulse_namespaces SET behind = ?, next_rotation = ?
		WHERE id = ? AND password = ? AND behind = 0 AND removing = 0`),
	giveUp: store.SQL(`DELETE FROM pulse_namespaces WHERE id = ? AND password = ? AND behind = ?`),
	due: store.SQL(`SELECT ` + columns + ` FROM pulse_namespaces
		WHERE (next_rotation, id) > (?, ?) AND next_rotation <= ? AND removing = 0 ORDER BY next_rotation, id LIMIT ?`),
	expired: store.SQL(`SELECT ` + columns + ` FROM pulse_namespaces
		WHERE (expires, id) > (?, ?) AND expires < ? ORDER BY expires, id LIMIT ?`),
	hide:   store.SQL(`UPDATE pulse_namespaces SET removing = 1 WHERE id = ?`),
	remove: store.SQL(`DELETE FROM pulse_namespaces WHERE id = ? AND removing = 1`),
	page:   store.SQL(`SELECT ` + columns + ` FROM pulse_namespaces WHERE namespace > ? ORDER BY namespace LIMIT ?`),

	states: store.SQL(`SELECT name, state FROM pulse_queues`),
	setState: store.SQL(`INSERT INTO pulse_queues (name, state, updated) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET state = excluded.state, updated = excluded.updated`),
	normal: store.SQL(`DELETE FROM pulse_queues WHERE name = ?`),
	oldStates: store.SQL(`DELETE FROM pulse_queues WHERE id IN (
		SELECT id FROM pulse_queues WHERE updated < ? ORDER BY updated LIMIT ?)`),

	count: store.SQL(`SELECT (SELECT count(*) FROM pulse_mails WHERE namespace = ? AND created > ?),
		(SELECT count(*) FROM pulse_mails WHERE address = ? AND created > ?)`),
	addMail: store.SQL(`INSERT INTO pulse_mails (message, namespace, address, subject, content, created, due, attempts)
		VALUES (?, ?, ?, ?, ?, ?, ?, 0)`),
	dueMails: store.SQL(`SELECT id, message, namespace, address, subject, content, created, attempts FROM pulse_mails WHERE due <= ? ORDER BY due, id LIMIT ?`),
	sent:     store.SQL(`UPDATE pulse_mails SET due = NULL WHERE id = ?`),
	later:    store.SQL(`UPDATE pulse_mails SET due = ?, attempts = attempts + 1 WHERE id = ?`),
	oldMails: store.SQL(`DELETE FROM pulse_mails WHERE id IN (
		SELECT id FROM pulse_mails WHERE created < ? ORDER BY created LIMIT ?)`),

	figures:      store.SQL(`SELECT count(*), COALESCE(sum(CASE WHEN behind > 0 THEN 1 ELSE 0 END), 0) FROM pulse_namespaces`),
	waitingMails: store.SQL(`SELECT count(*) FROM pulse_mails WHERE due IS NOT NULL`),
}

// What RabbitMQ may lack of a namespace, or have with another password.
const (
	lacksNone   = 0
	lacksActive = 1 // the active user
	lacksBoth   = 2
	unmade      = 3 // both, which it never had
)

// namespace is a row. It is not changed after it was read.
type namespace struct {
	row              int64
	name             string
	created, expires clock.Time
	contact          string
	active           int    // 1 or 2
	sealed           []byte // the password of the active user, as stored
	password         secret.Text
	behind           int // lacksNone to unmade
	nextRotation     clock.Time
	removing         bool
}

// standby is which of the two users is not the active one.
func (n *namespace) standby() int { return 3 - n.active }

type scanner interface{ Scan(dest ...any) error }

func (s *Service) scan(row scanner) (*namespace, error) {
	n := new(namespace)
	err := row.Scan(&n.row, &n.name, &n.created, &n.expires, &n.contact, &n.active, &n.sealed, &n.behind, &n.nextRotation, &n.removing)
	if err != nil {
		return nil, err
	}
	plain, err := s.keys.Open(n.sealed, sealContext(n.name))
	if err != nil {
		return nil, fmt.Errorf("the password of the namespace %s cannot be decrypted: %w", n.name, err)
	}
	n.password = secret.Text(plain)
	return n, nil
}

func sealContext(namespace string) []byte { return []byte("pulse namespace " + namespace) }

// seal encrypts a password so that it opens only as this namespace's.
func (s *Service) seal(namespace string, password secret.Text) []byte {
	return s.keys.Seal([]byte(password), sealContext(namespace))
}

// find reads a namespace; nil if there is none.
func (s *Service) find(tx *store.Tx, name string) (*namespace, error) {
	n, err := s.scan(tx.Row(stmt.get, name))
	if errors.Is(err, store.ErrNoRows) {
		return nil, nil
	}
	return n, err
}

// all reads the rows of a statement.
func (s *Service) all(rows *store.Rows) (list []*namespace, err error) {
	defer rows.Close()
	for rows.Next() {
		n, err := s.scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, rows.Err()
}
