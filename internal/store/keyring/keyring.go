// Package keyring seals secrets for storage with AES-256-GCM (NIST SP 800-38D).
//
// The keys are in a file of mode 0600: one line per key, "<id> <32 bytes in
// standard base64>", ids counting up from 1. The last key seals; all open. To
// rotate, append a key (Rotate); what was sealed before still opens, and is
// sealed with the new key when it is next written.
//
// A sealed value is: the byte 1 (the version of this form), the key's id (4
// bytes, big-endian), a random nonce (12 bytes), the ciphertext and its tag (16
// bytes). The version, the key's id and the context that the caller names are
// authenticated: a value does not open in another context, such as another row.
package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

const (
	version    = 1
	headerSize = 1 + 4
	nonceSize  = 12
	tagSize    = 16
	keySize    = 32

	// FileName is the name of the key file in its directory.
	FileName = "keys"
)

// Overhead is the number of bytes that Seal adds.
const Overhead = headerSize + nonceSize + tagSize

// ErrSealed is returned when a value does not open: it was altered, belongs to
// another context, or its key is missing.
var ErrSealed = errors.New("a sealed value cannot be opened")

// Keyring holds the keys. Its methods are safe for concurrent use.
type Keyring struct {
	path string // empty when the keys were given

	mu     sync.RWMutex
	keys   []string // as in the file, in base64
	opens  map[uint32]cipher.AEAD
	latest uint32
}

// Open reads the keys from the file "keys" in dir, and makes it with a random
// key if there is none. A file that others than its owner may read is refused.
func Open(dir string) (*Keyring, error) {
	path := filepath.Join(dir, FileName)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		k := &Keyring{path: path, opens: map[uint32]cipher.AEAD{}}
		// Another process may make the file at this moment: both use the first.
		if err := k.append(os.Link); !errors.Is(err, fs.ErrExist) {
			return k, err
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return nil, err
	}
	// Windows has no such modes: there the folder's permissions protect it.
	if info.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("the key file %s may be read or written by others (mode %04o): run chmod 600 on it", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	k, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("the key file %s: %w", path, err)
	}
	k.path = path
	return k, nil
}

// Parse makes a Keyring of keys that were given: the text of a key file.
// Errors do not repeat the text.
func Parse(text string) (*Keyring, error) {
	k := &Keyring{opens: map[uint32]cipher.AEAD{}}
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		id, encoded, _ := strings.Cut(line, " ")
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil || uint32(n) != k.latest+1 {
			return nil, fmt.Errorf("line %d does not begin with the number %d", i+1, k.latest+1)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(encoded))
		if err != nil || len(key) != keySize {
			return nil, fmt.Errorf("line %d does not hold %d bytes in base64", i+1, keySize)
		}
		if err := k.add(key); err != nil {
			return nil, err
		}
	}
	if k.latest == 0 {
		return nil, errors.New("there is no key")
	}
	return k, nil
}

// add makes key the one that seals.
func (k *Keyring) add(key []byte) error {
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	k.latest++
	k.opens[k.latest] = aead
	k.keys = append(k.keys, base64.StdEncoding.EncodeToString(key))
	return nil
}

// Rotate appends a random key to the file and seals with it from now on.
func (k *Keyring) Rotate() error {
	if k.path == "" {
		return errors.New("the keys were given, not read from a file: append a line to them and start again")
	}
	return k.append(os.Rename)
}

// append adds a random key to those in the file, which place puts where it belongs.
func (k *Keyring) append(place func(from, to string) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	var text strings.Builder
	for i, encoded := range append(k.keys[:len(k.keys):len(k.keys)], base64.StdEncoding.EncodeToString(key)) {
		fmt.Fprintf(&text, "%d %s\n", i+1, encoded)
	}
	if err := writeFile(k.path, text.String(), place); err != nil {
		return fmt.Errorf("the key file cannot be written: %w", err)
	}
	return k.add(key)
}

// writeFile writes a file durably and lets place put it at path: at any moment
// there is what was there before, or the whole new file.
func writeFile(path, text string, place func(from, to string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), FileName+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after a rename nothing is left of it
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil || runtime.GOOS == "windows" { // which cannot flush a folder
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Seal encrypts plain. context says what it is, as "secret\x00name"; the same
// has to be given to Open.
func (k *Keyring) Seal(plain, context []byte) []byte {
	k.mu.RLock()
	id := k.latest
	aead := k.opens[id]
	k.mu.RUnlock()
	sealed := make([]byte, headerSize+nonceSize, len(plain)+Overhead)
	sealed[0] = version
	binary.BigEndian.PutUint32(sealed[1:], id)
	nonce := sealed[headerSize:]
	rand.Read(nonce)
	return aead.Seal(sealed, nonce, plain, authenticated(sealed[:headerSize], context))
}

// Open decrypts what Seal made with the same context.
func (k *Keyring) Open(sealed, context []byte) ([]byte, error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return nil, fmt.Errorf("%w: it does not have the right form", ErrSealed)
	}
	id := binary.BigEndian.Uint32(sealed[1:])
	k.mu.RLock()
	aead := k.opens[id]
	k.mu.RUnlock()
	if aead == nil {
		return nil, fmt.Errorf("%w: its key, number %d, is missing", ErrSealed, id)
	}
	nonce, text := sealed[headerSize:headerSize+nonceSize], sealed[headerSize+nonceSize:]
	plain, err := aead.Open(nil, nonce, text, authenticated(sealed[:headerSize], context))
	if err != nil {
		return nil, fmt.Errorf("%w: it was altered or belongs elsewhere", ErrSealed)
	}
	return plain, nil
}

// Latest tells whether a sealed value was made with the newest key.
func (k *Keyring) Latest(sealed []byte) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(sealed) >= Overhead && binary.BigEndian.Uint32(sealed[1:]) == k.latest
}

func authenticated(header, context []byte) []byte {
	return append(header[:len(header):len(header)], context...)
}

// LogValue keeps the keys out of logs.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(k.String()) }

// String keeps the keys out of messages.
func (k *Keyring) String() string { return "keyring" }

// GoString keeps the keys out of %#v.
func (k *Keyring) GoString() string { return k.String() }
