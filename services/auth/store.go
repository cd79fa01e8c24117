package auth

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"taskcluster/internal/clock"
	"taskcluster/internal/secret"
	"taskcluster/internal/store"
)

//go:embed migrations
var migrationFiles embed.FS

// Migrations are the tables of this service. One of them, audit_history, is
// meant for the history of other services' entities too: secrets, hooks and
// worker pools. It is here because only this service answers from it; a
// service that writes to it needs these migrations as well.
func Migrations() store.Migrations {
	below, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	return store.Migrations{Component: "auth", FS: below}
}

const clientColumns = `client_id, description, access_token, expires, disabled, scopes, delete_on_expiration,
	created, last_modified, last_date_used, last_rotated`

var stmt = struct {
	getClient, lockClient, listClients, insertClient, updateClient, setDisabled, setToken,
	setLastUsed, deleteClient, expiredClients *store.Stmt

	roleSetVersion, bumpRoleSet, listRoles, putRole, deleteRole *store.Stmt

	getMark, setMark *store.Stmt

	insertAudit, entityHistory, clientHistory, purgeAudit *store.Stmt
}{
	getClient: store.SQL(`SELECT ` + clientColumns + ` FROM auth_clients WHERE client_id = ?`),
	lockClient: store.Dialect(
		`SELECT `+clientColumns+` FROM auth_clients WHERE client_id = ?`,
		`SELECT `+clientColumns+` FROM auth_clients WHERE client_id = ? FOR UPDATE`),
	listClients: store.SQL(`SELECT ` + clientColumns + ` FROM auth_clients
		WHERE client_id > ? AND client_id >= ? AND client_id < ? ORDER BY client_id LIMIT ?`),
	insertClient: store.SQL(`INSERT INTO auth_clients (` + clientColumns + `)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_id) DO NOTHING`),
	updateClient: store.SQL(`UPDATE auth_clients
		SET description = ?, expires = ?, scopes = ?, delete_on_expiration = ?, last_modified = ?
		WHERE client_id = ?`),
	setDisabled: store.SQL(`UPDATE auth_clients SET disabled = ?, last_modified = ? WHERE client_id = ?`),
	setToken: store.SQL(`UPDATE auth_clients SET access_token = ?, last_modified = ?, last_rotated = ?
		WHERE client_id = ?`),
	setLastUsed:  store.SQL(`UPDATE auth_clients SET last_date_used = ? WHERE client_id = ? AND last_date_used < ?`),
	deleteClient: store.SQL(`DELETE FROM auth_clients WHERE client_id = ?`),
	expiredClients: store.SQL(`SELECT client_id FROM auth_clients
		WHERE delete_on_expiration = 1 AND expires < ? ORDER BY expires LIMIT ?`),

	roleSetVersion: store.SQL(`SELECT version FROM auth_role_set`),
	bumpRoleSet:    store.SQL(`UPDATE auth_role_set SET version = version + 1 WHERE version = ?`),
	listRoles:      store.SQL(`SELECT role_id, description, scopes, created, last_modified FROM auth_roles ORDER BY role_id`),
	putRole: store.SQL(`INSERT INTO auth_roles (role_id, description, scopes, created, last_modified)
		VALUES (?, ?, ?, ?, ?) ON CONFLICT (role_id) DO UPDATE
		SET description = excluded.description, scopes = excluded.scopes, last_modified = excluded.last_modified`),
	deleteRole: store.SQL(`DELETE FROM auth_roles WHERE role_id = ?`),

	getMark: store.SQL(`SELECT name FROM auth_marks WHERE name = ?`),
	setMark: store.SQL(`INSERT INTO auth_marks (name) VALUES (?) ON CONFLICT (name) DO NOTHING`),

	insertAudit: store.SQL(`INSERT INTO audit_history (entity_type, entity_id, client_id, action_type, created)
		VALUES (?, ?, ?, ?, ?)`),
	entityHistory: store.SQL(`SELECT id, entity_type, entity_id, client_id, action_type, created FROM audit_history
		WHERE entity_type = ? AND entity_id = ? AND (created, id) > (?, ?) ORDER BY created, id LIMIT ?`),
	clientHistory: store.SQL(`SELECT id, entity_type, entity_id, client_id, action_type, created FROM audit_history
		WHERE client_id = ? AND (created, id) > (?, ?) ORDER BY created, id LIMIT ?`),
	purgeAudit: store.SQL(`DELETE FROM audit_history
		WHERE id IN (SELECT id FROM audit_history WHERE created < ? ORDER BY created LIMIT ?)`),
}

// Statements are the service's SQL statements, for a test that prepares each.
func Statements() []*store.Stmt { return store.Statements(stmt) }

// scanner is a row, of one or of many.
type scanner interface{ Scan(dest ...any) error }

// scanClient reads clientColumns.
func (s *Service) scanClient(row scanner) (*client, error) {
	c := new(client)
	var token, scopes []byte
	err := row.Scan(&c.id, &c.description, &token, &c.expires, &c.disabled, &scopes, &c.deleteOnExpiration,
		&c.created, &c.lastModified, &c.lastDateUsed, &c.lastRotated)
	if err != nil {
		return nil, err
	}
	plain, err := s.keys.Open(token, []byte(c.id))
	if err != nil {
		return nil, fmt.Errorf("the access token of client %s cannot be decrypted: %w", c.id, err)
	}
	c.token = secret.Text(plain)
	if err := json.Unmarshal(scopes, &c.scopes); err != nil {
		return nil, fmt.Errorf("the scopes of client %s: %w", c.id, err)
	}
	return c, nil
}

// findClient is the client with that id; nil if there is none.
func (s *Service) findClient(tx *store.Tx, query *store.Stmt, id string) (*client, error) {
	c, err := s.scanClient(tx.Row(query, id))
	if errors.Is(err, store.ErrNoRows) {
		return nil, nil
	}
	return c, err
}

// insertClient stores a new client. ok is false when the id is taken.
func (s *Service) insertClient(tx *store.Tx, c *client) (ok bool, err error) {
	scopes, err := json.Marshal(c.scopes)
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(stmt.insertClient, c.id, c.description, s.seal(c.id, c.token), c.expires, c.disabled, scopes,
		c.deleteOnExpiration, c.created, c.lastModified, c.lastDateUsed, c.lastRotated)
	return n == 1, err
}

// storeUpdate stores what an update may change.
func storeUpdate(tx *store.Tx, c *client) error {
	scopes, err := json.Marshal(c.scopes)
	if err != nil {
		return err
	}
	_, err = tx.Exec(stmt.updateClient, c.description, c.expires, scopes, c.deleteOnExpiration, c.lastModified, c.id)
	return err
}

// seal encrypts an access token so that it opens only as this client's.
func (s *Service) seal(clientID string, token secret.Text) []byte {
	return s.keys.Seal([]byte(token), []byte(clientID))
}

// readRoles reads all roles, ordered by id.
func readRoles(tx *store.Tx) (roles []*role, err error) {
	rows := tx.Query(stmt.listRoles)
	defer rows.Close()
	for rows.Next() {
		r := new(role)
		var scopes []byte
		if err := rows.Scan(&r.id, &r.description, &scopes, &r.created, &r.lastModified); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(scopes, &r.scopes); err != nil {
			return nil, fmt.Errorf("the scopes of role %s: %w", r.id, err)
		}
		roles = append(roles, r)
	}
	return roles, rows.Err()
}

func putRole(tx *store.Tx, r *role) error {
	scopes, err := json.Marshal(r.scopes)
	if err != nil {
		return err
	}
	_, err = tx.Exec(stmt.putRole, r.id, r.description, scopes, r.created, r.lastModified)
	return err
}

// marked tells whether something was done that is done only once.
func marked(tx *store.Tx, name string) (bool, error) {
	err := tx.Row(stmt.getMark, name).Scan(&name)
	if errors.Is(err, store.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// auditRow is one line of history.
type auditRow struct {
	id                                     int64
	entityType, entityID, clientID, action string
	created                                clock.Time
}

func readAudit(rows *store.Rows) ([]auditRow, error) {
	defer rows.Close()
	var all []auditRow
	for rows.Next() {
		var a auditRow
		if err := rows.Scan(&a.id, &a.entityType, &a.entityID, &a.clientID, &a.action, &a.created); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, rows.Err()
}
