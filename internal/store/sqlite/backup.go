package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"taskcluster/internal/store"
)

// backupPages is how many pages of 4 KiB are copied before it is looked whether
// to go on.
const backupPages = 4096

// Backup copies the database at path into the new file to: one snapshot of it,
// also while a server uses it, whose writes go on meanwhile. The copy is on the
// disk, and was read through, when Backup returns.
func Backup(ctx context.Context, path, to string) (err error) {
	source, err := look(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.close()) }()
	file, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	// What is cut short is thrown away: the copy needs no journal.
	target, err := connect(to, `PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -4096;`, "BEGIN")
	if err != nil {
		return err
	}
	// The transaction holds the snapshot while others write.
	err = source.Script(`BEGIN; SELECT count(*) FROM sqlite_schema;`)
	if err == nil {
		err = copySnapshot(ctx, source, target)
	}
	if err = errors.Join(err, target.close()); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return Verify(ctx, to)
}

func copySnapshot(ctx context.Context, source, target *conn) error {
	name, err := target.cString("main")
	if err != nil {
		return err
	}
	defer target.release(name)
	backup := sqlite3.Xsqlite3_backup_init(target.tls, target.db, name, source.db, name)
	if backup == 0 {
		return target.error(sqlite3.Xsqlite3_errcode(target.tls, target.db))
	}
	for ctx.Err() == nil {
		rc := sqlite3.Xsqlite3_backup_step(target.tls, backup, backupPages)
		switch rc {
		case sqlite3.SQLITE_OK:
			continue
		case sqlite3.SQLITE_DONE:
			if rc := sqlite3.Xsqlite3_backup_finish(target.tls, backup); rc != sqlite3.SQLITE_OK {
				return target.error(rc)
			}
			return nil
		}
		sqlite3.Xsqlite3_backup_finish(target.tls, backup)
		return target.error(rc)
	}
	sqlite3.Xsqlite3_backup_finish(target.tls, backup)
	return context.Cause(ctx)
}

// look opens a database that is there, to read it beside whoever uses it.
func look(path string) (*conn, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	return connect(path, `PRAGMA busy_timeout = 10000; PRAGMA trusted_schema = OFF; PRAGMA query_only = ON;`, "BEGIN")
}

// Verify reads the whole database at path, which nobody uses, and says what is
// damaged.
func Verify(ctx context.Context, path string) (err error) {
	c, err := look(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	rows, err := c.Query(store.SQL(`PRAGMA integrity_check`), nil)
	if err != nil {
		return err
	}
	defer rows.Close()
	var found []string
	for {
		more, err := rows.Next()
		if err != nil || !more {
			if err == nil && strings.Join(found, "") != "ok" {
				err = fmt.Errorf("%w: %s: %s", store.ErrDamaged, path, strings.Join(found, "; "))
			}
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if len(found) < 5 {
			found = append(found, string(rows.Column(0).Blob))
		}
	}
}

// Missing lists the migrations that opening the database at path would apply;
// all of them when there is none. It changes nothing and minds no lock.
func Missing(ctx context.Context, path string, all []store.Migrations) (_ []store.MissingStep, err error) {
	c, err := look(path)
	if errors.Is(err, fs.ErrNotExist) {
		return store.Plan(ctx, store.SQLite, path, nil, all)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	return store.Plan(ctx, store.SQLite, path, c, all)
}

// Lock takes the database at path from servers, until the lock is closed. It is
// store.ErrLocked when one has it.
func Lock(path string) (*os.File, error) { return lockFile(path + ".lock") }

// Replace puts a copy of the database file from, which Backup made, in the place
// of the one at path, whose files are moved into a directory beside it; aside
// names that, and is empty when there was none. The caller holds the lock.
func Replace(from, path string) (aside string, err error) {
	fresh := path + ".restoring"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := copyFile(from, fresh); err != nil {
		return "", err
	}
	// The -wal file is a part of the database that it was made with; beside
	// another one it would destroy it.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if _, err := os.Stat(path + suffix); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if aside == "" {
			aside = path + ".replaced-" + time.Now().UTC().Format("20060102T150405.000")
			if err := os.Mkdir(aside, 0o700); err != nil {
				return "", err
			}
		}
		if err := os.Rename(path+suffix, filepath.Join(aside, filepath.Base(path)+suffix)); err != nil {
			return aside, err
		}
	}
	if err := os.Rename(fresh, path); err != nil {
		return aside, err
	}
	return aside, syncDir(filepath.Dir(path))
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
