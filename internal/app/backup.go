package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"taskcluster/internal/config"
	"taskcluster/internal/store/keyring"
	"taskcluster/internal/store/sqlite"
)

// artifactsName is the directory of artifacts in the data directory.
const artifactsName = "artifacts"

// Backed says what a backup holds.
type Backed struct {
	Directory     string `json:"directory"`
	DatabaseBytes int64  `json:"databaseBytes"`
	Artifacts     int    `json:"artifacts"` // files that were copied
	ArtifactBytes int64  `json:"artifactBytes"`
}

// Backup copies the database, the keys that open its secrets, root.env and, if
// asked for, the artifacts into the new directory to, while the deployment runs.
// It appears under that name when it is whole.
func Backup(ctx context.Context, settings config.Settings, to string, artifacts bool) (b Backed, err error) {
	if settings.PostgresURL != nil {
		return b, errors.New("the database is PostgreSQL's, which has its own tool: pg_dump --format=custom --file=taskcluster.dump \"$POSTGRES_URL\"; keep the file " +
			filepath.Join(*settings.DataDir, keyring.FileName) + " with it (see docs/operating.md)")
	}
	if artifacts && *settings.ArtifactStore != "fs" {
		return b, errors.New("--artifacts: the artifacts are in a bucket, which this command does not copy; use the bucket's versioning or replication")
	}
	database := filepath.Join(*settings.DataDir, databaseName)
	if _, err := os.Stat(database); err != nil {
		return b, fmt.Errorf("there is no database to back up: %w; name the data directory with --data-dir", err)
	}
	if _, err := os.Lstat(to); err == nil {
		return b, fmt.Errorf("%s is there already: name a directory that is not, and each backup is one of its own", to)
	}
	partial := to + ".partial"
	if err := os.Mkdir(partial, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = fmt.Errorf("%w: it is of a backup that runs or was cut short; if none runs, remove it", err)
		}
		return b, err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(partial)
		}
	}()
	b.Directory = to
	copied := filepath.Join(partial, databaseName)
	if err := sqlite.Backup(ctx, database, copied); err != nil {
		return b, err
	}
	info, err := os.Stat(copied)
	if err != nil {
		return b, err
	}
	b.DatabaseBytes = info.Size()
	// After the database: every key that it needs is among them, because keys are only added.
	for _, name := range []string{keyring.FileName, rootEnvName} {
		if _, err := copyNew(filepath.Join(*settings.DataDir, name), filepath.Join(partial, name)); err != nil {
			return b, err
		}
	}
	if artifacts {
		// After the database too: it names no artifact that the copy lacks, unless
		// it expired meanwhile.
		b.Artifacts, b.ArtifactBytes, err = copyTree(ctx, filepath.Join(*settings.DataDir, artifactsName, "objects"), filepath.Join(partial, artifactsName, "objects"))
		if err != nil {
			return b, err
		}
	}
	if err := syncDirectory(partial); err != nil {
		return b, err
	}
	if err := os.Rename(partial, to); err != nil {
		return b, err
	}
	return b, syncDirectory(filepath.Dir(to))
}

// Restored says what a restoration did.
type Restored struct {
	DataDir   string `json:"dataDir"`
	Artifacts int    `json:"artifacts"`       // files that were copied
	Aside     string `json:"aside,omitempty"` // where the database and keys are that were there before
}

// Restore puts a backup into the data directory of a deployment that does not
// run. What is there already stays, unless force says otherwise; then it is moved
// aside. The backup is read through before anything is touched.
func Restore(ctx context.Context, settings config.Settings, from string, force bool) (r Restored, err error) {
	if settings.PostgresURL != nil {
		return r, errors.New("the database is PostgreSQL's, which has its own tool: stop every node, and pg_restore --clean --if-exists --single-transaction --dbname=\"$POSTGRES_URL\" taskcluster.dump; put the file keys of that time into the data directory (see docs/operating.md)")
	}
	copied := filepath.Join(from, databaseName)
	if err := checkBackup(ctx, from, copied); err != nil {
		return r, err
	}
	dir := *settings.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return r, err
	}
	database := filepath.Join(dir, databaseName)
	lock, err := sqlite.Lock(database)
	if err != nil {
		return r, fmt.Errorf("%s cannot be restored: %w", dir, err)
	}
	defer lock.Close()
	if !force {
		for _, name := range []string{databaseName, keyring.FileName, rootEnvName} {
			if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
				return r, fmt.Errorf("%s is there already: restore into an empty directory, or give --force to replace what is there", filepath.Join(dir, name))
			}
		}
	}
	r.DataDir = dir
	if r.Artifacts, _, err = copyTree(ctx, filepath.Join(from, artifactsName), filepath.Join(dir, artifactsName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if r.Aside, err = sqlite.Replace(copied, database); err != nil {
		return r, err
	}
	for _, name := range []string{keyring.FileName, rootEnvName} {
		text, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return r, err
		}
		if r.Aside != "" {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(r.Aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return r, err
			}
		}
		if err := replaceFile(filepath.Join(dir, name), text); err != nil {
			return r, err
		}
	}
	return r, syncDirectory(dir)
}

// checkBackup refuses a backup that a deployment could not start with.
func checkBackup(ctx context.Context, from, database string) error {
	for _, name := range []string{databaseName, keyring.FileName, rootEnvName} {
		if _, err := os.Stat(filepath.Join(from, name)); err != nil {
			return fmt.Errorf("%s is no backup that \"taskcluster admin backup\" made: %w", from, err)
		}
	}
	if _, err := keyring.Open(from); err != nil {
		return err
	}
	if err := sqlite.Verify(ctx, database); err != nil {
		return fmt.Errorf("the backup is damaged, take an older one: %w", err)
	}
	_, err := sqlite.Missing(ctx, database, migrations())
	return err
}

// copyTree copies the files below from that are not below to yet, and how many
// that were. A file that goes away meanwhile is left out.
func copyTree(ctx context.Context, from, to string) (files int, bytes int64, err error) {
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, below), 0o700)
		}
		n, err := copyNew(path, filepath.Join(to, below))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist):
			return nil
		case err != nil:
			return err
		}
		files++
		bytes += n
		return nil
	})
	return files, bytes, err
}

// copyNew copies a file to a name that is free, and to the disk.
func copyNew(from, to string) (n int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	if n, err = io.Copy(out, in); err == nil {
		err = out.Sync()
	}
	return n, errors.Join(err, out.Close())
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
