package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"taskcluster/internal/store/keyring"
)

// sharedKeys are the keys of a deployment whose database is not in the data
// directory: those that were set, or those in the data directory, which are made
// for a new deployment only.
func (a *App) sharedKeys(ctx context.Context) (*keyring.Keyring, error) {
	if a.settings.Keys != nil {
		keys, err := keyring.Parse(string(*a.settings.Keys))
		if err != nil {
			return nil, fmt.Errorf("setting keys: %w", err)
		}
		return keys, nil
	}
	dir := *a.settings.DataDir
	file := filepath.Join(dir, keyring.FileName)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		known, err := a.store.Fact(ctx, keyFact(1))
		if err != nil {
			return nil, err
		}
		if known != nil {
			return nil, fmt.Errorf("%s belongs to a deployment that has keys already, and %s is missing: %s", a.store.Where(), file, howToGetKeys)
		}
	}
	return keyring.Open(dir)
}

const howToGetKeys = "copy the file keys from the data directory of a node that works, or give it with --keys file:PATH; all nodes need the same"

// checkKeys refuses keys with which what is in the database could not be read,
// or with which this process would write what others cannot read.
func (a *App) checkKeys(ctx context.Context, keys *keyring.Keyring) error {
	prints := keys.Fingerprints()
	for i, print := range prints {
		holds, err := a.store.Agree(ctx, keyFact(i+1), print)
		if err != nil {
			return err
		}
		if !bytes.Equal(holds, print) {
			return fmt.Errorf("key number %d is not the one that the secrets in %s are sealed with: %s", i+1, a.store.Where(), howToGetKeys)
		}
	}
	more, err := a.store.Fact(ctx, keyFact(len(prints)+1))
	if err != nil {
		return err
	}
	if more != nil {
		return fmt.Errorf("there are %d keys, and secrets in %s are sealed with newer ones: %s", len(prints), a.store.Where(), howToGetKeys)
	}
	return nil
}

func keyFact(number int) string { return fmt.Sprintf("key %d", number) }
