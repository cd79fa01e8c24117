package object

import (
	"embed"
	"encoding/json"
	"errors"
	"io/fs"

	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

//go:embed migrations
var migrations embed.FS

// Migrations makes the table of the service.
func Migrations() store.Migrations {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the directory is part of the program
	}
	return store.Migrations{Component: "object", FS: sub}
}

const columns = `id, name, project_id, backend_id, expires, upload_id, upload_expires, hashes, removing`

var stmt = struct {
	get, lock, insert, finish, setHashes *store.Stmt
	expired, hide, delete                *store.Stmt
}{
	get: store.SQL(`SELECT ` + columns + ` FROM objects WHERE name = ?`),
	lock: store.Dialect(
		`SELECT `+columns+` FROM objects WHERE name = ?`,
		`SELECT `+columns+` FROM objects WHERE name = ? FOR UPDATE`),
	insert: store.SQL(`INSERT INTO objects (name, project_id, backend_id, expires, upload_id, upload_expires, hashes, due)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`),
	setHashes: store.SQL(`UPDATE objects SET hashes = ? WHERE id = ?`),
	finish:    store.SQL(`UPDATE objects SET hashes = ?, upload_id = NULL, upload_expires = NULL, due = ? WHERE id = ?`),

	expired: store.SQL(`SELECT id, name, backend_id, due FROM objects
		WHERE (due, id) > (?, ?) AND due < ? ORDER BY due, id LIMIT ?`),
	hide:   store.SQL(`UPDATE objects SET removing = 1 WHERE id = ? AND due < ?`),
	delete: store.SQL(`DELETE FROM objects WHERE id = ? AND removing = 1`),
}

// object is a row.
type object struct {
	row           int64
	name          string
	projectID     string
	backendID     string
	expires       clock.Time
	uploadID      *slugid.ID // nil once the upload is finished
	uploadExpires *clock.Time
	hashes        map[string]json.RawMessage
	removing      bool
}

// scanner is a row to be read.
type scanner interface{ Scan(dest ...any) error }

func scan(row scanner) (*object, error) {
	o := new(object)
	var hashes []byte
	err := row.Scan(&o.row, &o.name, &o.projectID, &o.backendID, &o.expires, &o.uploadID, &o.uploadExpires, &hashes, &o.removing)
	if err != nil {
		return nil, err
	}
	return o, json.Unmarshal(hashes, &o.hashes)
}

func notFound(name string) error {
	return tcerr.New(tcerr.ResourceNotFound, "Object %q not found", name)
}

// load reads an object for a change; none is a refusal, in the published form.
func load(tx *store.Tx, name string) (o *object, refusal, err error) {
	o, err = scan(tx.Row(stmt.lock, name))
	if errors.Is(err, store.ErrNoRows) || err == nil && o.removing {
		return nil, notFound(name), nil
	}
	return o, nil, err
}

// insert stores a new object; ok is false when its name or its uploadId is
// taken.
func insert(tx *store.Tx, o *object, due clock.Time) (ok bool, err error) {
	hashes, err := json.Marshal(o.hashes)
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(stmt.insert, o.name, o.projectID, o.backendID, o.expires, o.uploadID, o.uploadExpires, hashes, due)
	return n == 1, err
}
