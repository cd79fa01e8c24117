package fs

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"taskcluster/internal/blob"
)

// trailer follows the bytes of an object in its file: JSON, then the length of
// that JSON (4 bytes, big-endian), then the magic. It stands at the end because
// size and hash are known only then, and in the same file so that one rename
// replaces both.
type trailer struct {
	Key                string `json:"key"`
	ContentType        string `json:"contentType,omitempty"`
	ContentEncoding    string `json:"contentEncoding,omitempty"`
	ContentDisposition string `json:"contentDisposition,omitempty"`
	Size               int64  `json:"size"`
	ETag               string `json:"etag,omitempty"`
	SHA256             string `json:"sha256,omitempty"` // in place of the ETag, in files of older versions
}

const (
	magic      = "TCB1"
	footSize   = 4 + len(magic)
	maxTrailer = 4 << 20
)

func (t trailer) info() blob.Info {
	return blob.Info{ContentType: t.ContentType, ContentEncoding: t.ContentEncoding,
		ContentDisposition: t.ContentDisposition, Size: t.Size, ETag: t.etag()}
}

// etag is the tag of the content. It comes from a fast hash, which tells
// contents apart that differ by chance; who wants to know that nobody meddled
// with them compares hashes of his own.
func (t trailer) etag() string {
	if t.ETag == "" {
		return t.SHA256
	}
	return t.ETag
}

func (t trailer) write(w io.Writer) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	if len(b) > maxTrailer {
		return fmt.Errorf("%w: its description is too long", blob.ErrInvalid)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(b)))
	_, err = w.Write(append(b, magic...))
	return err
}

var errDamaged = errors.New("the file is damaged")

func readTrailer(f *os.File) (trailer, error) {
	st, err := f.Stat()
	if err != nil {
		return trailer{}, err
	}
	foot := make([]byte, footSize)
	end := st.Size() - int64(footSize)
	if end < 0 {
		return trailer{}, errDamaged
	}
	if _, err := f.ReadAt(foot, end); err != nil {
		return trailer{}, err
	}
	n := int64(binary.BigEndian.Uint32(foot))
	if string(foot[4:]) != magic || n > maxTrailer || n > end {
		return trailer{}, errDamaged
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, end-n); err != nil {
		return trailer{}, err
	}
	var t trailer
	if json.Unmarshal(b, &t) != nil || t.Size != end-n {
		return trailer{}, errDamaged
	}
	return t, nil
}

// full turns the system's ways to say so into blob.ErrDiskFull.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", blob.ErrDiskFull, err)
	}
	return err
}
