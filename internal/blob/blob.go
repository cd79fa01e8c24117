// Package blob keeps the bytes of artifacts and objects. A store hands out
// signed URLs, so that workers upload and people download without the API's
// servers in between, and lets the services read and remove what it keeps.
//
// What every store promises: an object appears whole or not at all; writing a
// key again replaces the object at once; an object is served with the
// Content-Type, Content-Encoding and Content-Disposition with which it was written.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Store keeps objects under keys such as "<taskId>/<runId>/<name>". A key is
// printable ASCII and is never interpreted: "a/../b" and "b" are two keys.
type Store interface {
	// PutURL makes a URL that accepts one or more PUTs, with no other
	// authentication, for the duration given. Each must be as u says; any
	// Content-Encoding is kept.
	PutURL(ctx context.Context, key string, u Upload, valid time.Duration) (string, error)
	// GetURL makes a URL that serves the object to GET for the duration given,
	// and to HEAD where one signature can be for both, which on S3 it cannot.
	// The object need not exist yet.
	GetURL(ctx context.Context, key string, valid time.Duration) (string, error)
	// Put writes an object. Of meta the Size and the ETag do not count.
	Put(ctx context.Context, key string, meta Info, body io.Reader) (Info, error)
	// Open reads an object as it is stored (not decoded); ErrNotFound if there is none.
	Open(ctx context.Context, key string) (io.ReadCloser, Info, error)
	// Stat describes an object; ErrNotFound if there is none.
	Stat(ctx context.Context, key string) (Info, error)
	// Delete removes objects. Those that do not exist are no error; when some
	// cannot be removed the others are all the same.
	Delete(ctx context.Context, keys ...string) error
}

// Upload says what a PUT to a signed URL must be.
type Upload struct {
	ContentType        string // it carries exactly this
	ContentDisposition string // and this; empty for none
	Length             int64  // of its body, in bytes; AnyLength for any
}

// AnyLength leaves the length of an Upload to whoever sends it.
const AnyLength = -1

// Info describes an object as it is stored.
type Info struct {
	ContentType        string
	ContentEncoding    string // "gzip", or empty for none
	ContentDisposition string // "attachment" has browsers save it; empty for none
	Size               int64  // stored bytes, that is, after encoding
	ETag               string // an opaque token, without quotes, that changes with the content
}

// The errors that callers tell apart with errors.Is.
var (
	ErrNotFound = errors.New("no such object")
	ErrDiskFull = errors.New("the storage is full")
	ErrTooLarge = errors.New("the object is larger than this deployment allows")
	ErrInvalid  = errors.New("invalid object")
)

// CheckKey refuses keys that cannot be kept or put in a URL: the empty one,
// what is not printable ASCII, and "." and "..", which no URL can end in.
func CheckKey(key string) error {
	if key == "" || key == "." || key == ".." {
		return fmt.Errorf("%w: %q cannot be a key", ErrInvalid, key)
	}
	if !printable(key) {
		return fmt.Errorf("%w: key %q has characters outside printable ASCII", ErrInvalid, key)
	}
	return nil
}

// CheckHeaders refuses what cannot be sent as HTTP headers.
func (i Info) CheckHeaders() error {
	return errors.Join(
		CheckHeader("Content-Type", i.ContentType),
		CheckHeader("Content-Encoding", i.ContentEncoding),
		CheckHeader("Content-Disposition", i.ContentDisposition),
	)
}

// CheckHeader refuses a value that cannot be sent as the HTTP header of that
// name.
func CheckHeader(name, value string) error {
	if !printable(value) || (value != "" && (value[0] == ' ' || value[len(value)-1] == ' ')) {
		return fmt.Errorf("%w: %q cannot be a %s", ErrInvalid, value, name)
	}
	return nil
}

func printable(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
