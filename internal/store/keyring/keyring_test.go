package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestSealOpen(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "keys"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	first := k.Seal([]byte("token"), []byte("client/a"))
	if bytes.Contains(first, []byte("token")) || len(first) != len("token")+Overhead {
		t.Fatalf("%x", first)
	}
	if bytes.Equal(first, k.Seal([]byte("token"), []byte("client/a"))) {
		t.Error("sealing twice gives the same")
	}
	if !k.Latest(first) {
		t.Error("sealed with the only key, and yet not with the latest")
	}
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	second := k.Seal([]byte("other"), nil)
	if k.Latest(first) || !k.Latest(second) {
		t.Error("after the rotation the new key is not the latest")
	}
	again, err := Open(dir) // as after a restart
	if err != nil {
		t.Fatal(err)
	}
	for _, ring := range []*Keyring{k, again} {
		if plain, err := ring.Open(first, []byte("client/a")); err != nil || string(plain) != "token" {
			t.Errorf("%q, %v", plain, err)
		}
		if plain, err := ring.Open(second, nil); err != nil || string(plain) != "other" {
			t.Errorf("%q, %v", plain, err)
		}
	}
	if _, err := k.Open(first, []byte("client/b")); !errors.Is(err, ErrSealed) {
		t.Errorf("opened in another context: %v", err)
	}
	for i := range first {
		altered := bytes.Clone(first)
		altered[i] ^= 1
		if _, err := k.Open(altered, []byte("client/a")); !errors.Is(err, ErrSealed) {
			t.Errorf("opened with byte %d altered: %v", i, err)
		}
	}
	stranger, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Open(second, nil); !errors.Is(err, ErrSealed) {
		t.Errorf("opened with another keyring: %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "keys"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a file that others may read: %v", err)
	}
	key := k.keys[0]
	for name, text := range map[string]string{
		"empty": "", "no number": key, "wrong number": "2 " + key, "double": "1 " + key + "\n1 " + key,
		"short": "1 AAAA", "not base64": "1 " + strings.Repeat("!", 44),
	} {
		if _, err := Parse(text); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", name, err)
		}
	}
	given, err := Parse("1 " + key + "\n\n")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := given.Open(k.Seal([]byte("x"), nil), nil); err != nil || string(plain) != "x" {
		t.Errorf("%q, %v", plain, err)
	}
	if given.Rotate() == nil {
		t.Error("given keys were rotated")
	}
	if text := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); strings.Contains(text, key) {
		t.Errorf("a key shows in %s", text)
	}
}

func FuzzOpen(f *testing.F) {
	k, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Seal([]byte("a"), nil), []byte(nil))
	f.Add([]byte{1, 0, 0, 0, 1}, []byte("c"))
	f.Fuzz(func(t *testing.T, plain, context []byte) {
		if got, err := k.Open(plain, append(context, 'x')); err == nil {
			t.Fatalf("%x opened to %x", plain, got)
		}
		got, err := k.Open(k.Seal(plain, context), context)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%x, %v", got, err)
		}
	})
}

// TestOpenedByTwo: whoever opens a new directory at the same time gets the keys
// that are in the file.
func TestOpenedByTwo(t *testing.T) {
	for range 20 {
		dir := t.TempDir()
		rings := make([]*Keyring, 8)
		var wg sync.WaitGroup
		for i := range rings {
			wg.Go(func() {
				var err error
				if rings[i], err = Open(dir); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		last, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range rings {
			if _, err := last.Open(k.Seal([]byte("x"), nil), nil); err != nil {
				t.Errorf("ring %d: %v", i, err)
			}
		}
	}
}
