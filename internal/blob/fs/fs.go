// Package fs is the blob store that keeps objects in a directory and serves
// its own signed URLs.
//
// Objects lie in DIR/objects/<2 hex>/<62 hex>, named by the SHA-256 of their
// key, so no key can reach outside the directory or be too long for the file
// system. Each is written to DIR/tmp, flushed to the disk and renamed: a crash
// at any moment leaves the old object or the new one.
//
// As with S3, a signed URL permits every request of its method until it
// expires: whoever has a PUT URL can replace the object as often as he likes in
// that time, also after it was uploaded. What must not change afterwards needs
// a hash that its reader checks.
package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"taskcluster/internal/blob"
	"taskcluster/internal/clock"
)

// Options configure a store.
type Options struct {
	RootURL string      // of the deployment; signed URLs are <RootURL>/blob/…
	Key     []byte      // signs URLs; secret, at least 32 bytes, the same on all nodes
	Clock   clock.Clock // default: the machine's
	MaxSize int64       // of one object in stored bytes; 0: as large as the disk allows
	Log     *slog.Logger
}

// abandoned is the age after which a file in DIR/tmp belongs to no upload.
const abandoned = 24 * time.Hour

// Store implements blob.Store. It is safe for concurrent use, also by several
// processes that share the directory.
type Store struct {
	dir     string
	base    string // <RootURL>/blob/
	prefix  string // path of base
	key     []byte
	clock   clock.Clock
	maxSize int64
	log     *slog.Logger

	// tap wraps the file that an upload is written to; tests make disks fail with it.
	tap func(io.Writer) io.Writer
}

// New opens the store in dir, which is made if it does not exist.
func New(dir string, opts Options) (*Store, error) {
	if len(opts.Key) < 32 {
		return nil, errors.New("blob/fs: the key that signs URLs must have at least 32 bytes")
	}
	base := strings.TrimRight(opts.RootURL, "/") + "/blob/"
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("blob/fs: %q is not a root URL", opts.RootURL)
	}
	if opts.Clock == nil {
		opts.Clock = clock.Real{}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		dir: dir, base: base, prefix: u.EscapedPath(), key: opts.Key,
		clock: opts.Clock, maxSize: opts.MaxSize, log: opts.Log,
		tap: func(w io.Writer) io.Writer { return w },
	}
	for _, d := range []string{s.tmp(), filepath.Join(dir, "objects")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	return s, s.sweep()
}

// Put implements blob.Store.
func (s *Store) Put(ctx context.Context, key string, meta blob.Info, body io.Reader) (blob.Info, error) {
	if err := errors.Join(blob.CheckKey(key), meta.CheckHeaders()); err != nil {
		return blob.Info{}, err
	}
	f, err := os.CreateTemp(s.tmp(), "put-*")
	if err != nil {
		return blob.Info{}, full(err)
	}
	defer os.Remove(f.Name()) // after the rename there is nothing left to remove
	defer f.Close()

	if s.maxSize > 0 {
		body = io.LimitReader(body, s.maxSize+1)
	}
	if meta.ContentEncoding == "gzip" {
		if body, err = gzipped(reader{ctx, body}); err != nil {
			return blob.Info{}, err
		}
	}
	size, etag, err := s.receive(f, reader{ctx, body})
	if err != nil {
		return blob.Info{}, full(err)
	}
	if s.maxSize > 0 && size > s.maxSize {
		return blob.Info{}, blob.ErrTooLarge
	}
	t := trailer{
		Key: key, ContentType: meta.ContentType, ContentEncoding: meta.ContentEncoding, ContentDisposition: meta.ContentDisposition,
		Size: size, ETag: etag,
	}
	if err := t.write(s.tap(f)); err != nil {
		return blob.Info{}, full(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return blob.Info{}, full(err)
	}
	if err := s.publish(f.Name(), s.path(key)); err != nil {
		return blob.Info{}, full(err)
	}
	return t.info(), nil
}

// gzipped refuses what does not begin as gzip (RFC 1952): browsers could not
// show it. The rest is not decoded; who uploads less than the whole harms
// only his own object.
func gzipped(body io.Reader) (io.Reader, error) {
	magic := make([]byte, 2)
	n, err := io.ReadFull(body, magic)
	if err != nil && err != io.EOF && (err != io.ErrUnexpectedEOF || n == 0) {
		return nil, err
	}
	if n < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
		return nil, fmt.Errorf("%w: its Content-Encoding is gzip, but it is not gzip", blob.ErrInvalid)
	}
	return io.MultiReader(bytes.NewReader(magic), body), nil
}

// Open implements blob.Store.
func (s *Store) Open(_ context.Context, key string) (io.ReadCloser, blob.Info, error) {
	f, t, err := s.open(key)
	if err != nil {
		return nil, blob.Info{}, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, 0, t.Size), f}, t.info(), nil
}

// Stat implements blob.Store.
func (s *Store) Stat(_ context.Context, key string) (blob.Info, error) {
	f, t, err := s.open(key)
	if err != nil {
		return blob.Info{}, err
	}
	return t.info(), f.Close()
}

// Delete implements blob.Store. The directory is not flushed: after a crash
// an object may be back, and whoever expires it deletes it again.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	var errs []error
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if err := os.Remove(s.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// open opens an object's file and reads its trailer.
func (s *Store) open(key string) (*os.File, trailer, error) {
	f, err := os.Open(s.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, trailer{}, blob.ErrNotFound
	}
	if err != nil {
		return nil, trailer{}, err
	}
	t, err := readTrailer(f)
	if err == nil && t.Key != key {
		err = fmt.Errorf("the object belongs to another key, %q", t.Key)
	}
	if err != nil {
		f.Close()
		return nil, trailer{}, fmt.Errorf("blob/fs: %s: %w", f.Name(), err)
	}
	return f, t, nil
}

// publish moves a finished file to its place and makes the move durable.
func (s *Store) publish(from, to string) error {
	dir := filepath.Dir(to)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := syncDir(filepath.Dir(dir)); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(dir)
}

// sweep removes what uploads that a crash cut short left behind.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.tmp())
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || time.Since(info.ModTime()) < abandoned {
			continue
		}
		if err := os.Remove(filepath.Join(s.tmp(), e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s *Store) tmp() string { return filepath.Join(s.dir, "tmp") }

func (s *Store) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	name := hex.EncodeToString(sum[:])
	return filepath.Join(s.dir, "objects", name[:2], name[2:])
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// reader stops when its context ends.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
