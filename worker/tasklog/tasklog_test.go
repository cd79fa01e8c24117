package tasklog

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/clock"
)

func create(t *testing.T, limit int64) *Log {
	l, err := Create(filepath.Join(t.TempDir(), "log"), limit, clock.NewFake(clock.Of(time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func content(t *testing.T, l *Log) string {
	t.Helper()
	b, err := os.ReadFile(l.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestLines(t *testing.T) {
	l := create(t, 0)
	l.Infof("=== %s ===", "Task Starting")
	l.Write([]byte("no line end"))
	l.Warnf("careful")
	l.Write([]byte("whole line\n"))
	l.Errorf("two\nlines\n")
	want := "[taskcluster 2026-01-02T03:04:05.678Z] === Task Starting ===\n" +
		"no line end\n" +
		"[taskcluster:warn 2026-01-02T03:04:05.678Z] careful\n" +
		"whole line\n" +
		"[taskcluster:error] two\n[taskcluster:error] lines\n"
	if got := content(t, l); got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLimit(t *testing.T) {
	l := create(t, 10)
	for range 3 {
		if n, err := l.Write([]byte("1234567")); n != 7 || err != nil {
			t.Fatal(n, err)
		}
	}
	l.Infof("end")
	got := content(t, l)
	if !strings.HasPrefix(got, "1234567123\n[taskcluster:error] The log has reached its limit of 10 bytes") ||
		strings.Count(got, "limit") != 1 || !strings.HasSuffix(got, "] end\n") {
		t.Fatal(got)
	}
}

func TestFailureToWriteIsRemembered(t *testing.T) {
	l := create(t, 0)
	l.file.Close() // as good as a full disk
	if n, err := l.Write([]byte("x")); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if !errors.Is(l.Err(), ErrWriting) {
		t.Fatal(l.Err())
	}
}

// Readers that come early, in the middle and after the end all get everything.
func TestFollow(t *testing.T) {
	l := create(t, 0)
	var wg sync.WaitGroup
	texts := make([]string, 3)
	read := func(i int) {
		r, err := l.Follow(t.Context())
		if err != nil {
			t.Error(err)
			return
		}
		wg.Go(func() {
			defer r.Close()
			b, err := io.ReadAll(r)
			if err != nil {
				t.Error(err)
			}
			texts[i] = string(b)
		})
	}
	want := strings.Repeat("0123456789\n", 10_000)
	read(0)
	for i := range 10_000 {
		if i == 5_000 {
			read(1)
		}
		l.Write([]byte("0123456789\n"))
	}
	l.Close()
	read(2)
	l.Write([]byte("dropped"))
	wg.Wait()
	for i, text := range texts {
		if text != want {
			t.Errorf("reader %d got %d bytes, want %d", i, len(text), len(want))
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	l := create(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	r, err := l.Follow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
