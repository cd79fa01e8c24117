//go:build unix

package sqlite_test

import (
	"errors"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"taskcluster/internal/store"
)

// TestDiskFails lets the operating system refuse to write: files may not grow
// beyond a size.
func TestDiskFails(t *testing.T) {
	s, _ := openAt(t, store.Options{})
	if err := s.Write(t.Context(), putItem(1000)); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = 512 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	kept, refused := 1, 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 40 {
				err := s.Write(t.Context(), putItem(3000))
				mu.Lock()
				switch {
				case err == nil:
					kept++
				case errors.Is(err, store.ErrDiskFull) || errors.Is(err, store.ErrIO):
					refused++
				default:
					t.Errorf("not a clear refusal: %v", err)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if refused == 0 {
		t.Fatal("nothing was refused")
	}
	if n := countItems(t, s); n != int64(kept) {
		t.Errorf("%d items are stored, %d were acknowledged", n, kept)
	}
	if err := s.Write(t.Context(), putItem(3000)); err != nil {
		t.Errorf("with a working disk again: %v", err)
	}
	if n := countItems(t, s); n != int64(kept)+1 {
		t.Errorf("%d items are stored, %d were acknowledged", n, kept+1)
	}
}
