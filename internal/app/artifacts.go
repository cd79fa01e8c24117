package app

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// artifactsMark is the file by which a directory of artifacts is known.
const artifactsMark = "shared-by"

// checkArtifacts refuses a directory of artifacts that is not the one of the
// other processes on this database: they would not find each other's.
func (a *App) checkArtifacts(ctx context.Context, dir string) error {
	path := filepath.Join(dir, artifactsMark)
	here, err := readMark(path)
	if err != nil {
		return err
	}
	holds, err := a.store.Fact(ctx, "artifacts")
	if err != nil {
		return err
	}
	if holds == nil { // the first to start
		if here == nil {
			if here, err = makeMark(path); err != nil {
				return err
			}
		}
		if holds, err = a.store.Agree(ctx, "artifacts", here); err != nil {
			return err
		}
	}
	if !bytes.Equal(holds, here) {
		return fmt.Errorf("the artifact store is fs, and %s is not the directory that the other processes on this database keep artifacts in: "+
			"mount that one there, or use artifact-store s3; if it was lost for good, write %s into %s to go on without it", dir, holds, path)
	}
	return nil
}

// readMark reads what a directory is known by, nil when it is a new one.
func readMark(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return bytes.TrimSpace(text), err
}

// makeMark gives a directory a mark, unless another process is quicker.
func makeMark(path string) ([]byte, error) {
	own := path + "." + rand.Text()
	defer os.Remove(own)
	if err := os.WriteFile(own, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.Link(own, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readMark(path)
}
