package fs

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// An upload passes through a buffer of bufferSize, and after each stretch the
// disk is asked to begin writing: the flush at the end, which the caller waits
// for, then finds little left to do.
const (
	bufferSize = 256 << 10
	stretch    = 8 << 20
)

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// receive writes body to a new file and returns its length and its tag.
func (s *Store) receive(f *os.File, body io.Reader) (size int64, etag string, err error) {
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	to, hash := s.tap(f), xxhash.New()
	begun := int64(0)
	for {
		n, err := body.Read(buffer[:])
		if n > 0 {
			hash.Write(buffer[:n])
			if _, err := to.Write(buffer[:n]); err != nil {
				return size, "", err
			}
			size += int64(n)
		}
		if err == io.EOF {
			return size, fmt.Sprintf("%x-%016x", size, hash.Sum64()), nil
		}
		if err != nil {
			return size, "", err
		}
		if size-begun >= stretch {
			beginWriting(f, begun, size-begun)
			begun = size
		}
	}
}
