// Package tasklog keeps the log of one run: what its commands print, and the
// worker's own lines between, in the form that log parsers know from
// generic-worker:
//
//	[taskcluster 2026-01-02T03:04:05.678Z] === Task Starting ===
//	[taskcluster:warn 2026-01-02T03:04:05.678Z] …
//	[taskcluster:error] …
//
// The log is a file, never memory, however much a task prints. Any number of
// readers follow it from the first byte while it grows, each at its own pace.
package tasklog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"taskcluster/internal/clock"
)

// Log is a log that grows until Close. It is safe for concurrent use.
type Log struct {
	clock clock.Clock
	limit int64 // of what commands print; 0 is none

	mu      sync.Mutex
	file    *os.File
	size    int64
	midline bool // the last byte is not a line's end
	capped  bool // the limit was reached, and said so
	closed  bool
	err     error         // first failure to write
	changed chan struct{} // closed at the next change
}

// Create makes a log in a new file. The limit is the size in bytes after which
// output of commands is dropped; the worker's own lines are always kept.
func Create(path string, limit int64, c clock.Clock) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &Log{clock: c, limit: limit, file: f, changed: make(chan struct{})}, nil
}

// ErrWriting is in the error of a log that could not be written to the disk.
var ErrWriting = errors.New("the log could not be written")

// Write adds output of a command. It never fails, so that a full disk does not
// look like a broken pipe to the command: see Err.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return len(p), nil // no holes in what is printed
	}
	room := p
	if l.limit > 0 {
		room = p[:min(int64(len(p)), max(l.limit-l.size, 0))]
	}
	l.append(room)
	if len(room) < len(p) && !l.capped {
		l.capped = true
		l.line("[taskcluster:error] ", fmt.Sprintf("The log has reached its limit of %d bytes; further output is dropped.", l.limit))
	}
	return len(p), nil
}

// Infof adds lines of the worker's own.
func (l *Log) Infof(format string, args ...any) {
	l.lines(func() string { return "[taskcluster " + l.clock.Now().String() + "] " }, format, args)
}

// Warnf adds warnings.
func (l *Log) Warnf(format string, args ...any) {
	l.lines(func() string { return "[taskcluster:warn " + l.clock.Now().String() + "] " }, format, args)
}

// Errorf adds errors.
func (l *Log) Errorf(format string, args ...any) {
	l.lines(func() string { return "[taskcluster:error] " }, format, args)
}

func (l *Log) lines(prefix func() string, format string, args []any) {
	text := fmt.Sprintf(format, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		l.line(prefix(), line)
	}
}

func (l *Log) line(prefix, text string) {
	s := prefix + text + "\n"
	if l.midline {
		s = "\n" + s
	}
	l.append([]byte(s))
}

// append writes at the end. The lock is held. After a failure the worker's own
// lines are still tried: there may be room again.
func (l *Log) append(p []byte) {
	if l.closed || len(p) == 0 {
		return
	}
	n, err := l.file.WriteAt(p, l.size)
	if n > 0 {
		l.size += int64(n)
		l.midline = p[n-1] != '\n'
		l.wake()
	}
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("%w: %w", ErrWriting, err)
	}
}

func (l *Log) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Err is the first failure to write, or nil. It wraps ErrWriting.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Size is how many bytes there are so far.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Close ends the log: readers come to the end, and later writes are dropped.
// The file stays, for readers and for whoever opens it by its path.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.wake()
	return l.file.Close()
}

// Follow returns a reader from the first byte on that waits for more until the
// log is closed or ctx ends.
func (l *Log) Follow(ctx context.Context) (io.ReadCloser, error) {
	f, err := os.Open(l.file.Name())
	if err != nil {
		return nil, err
	}
	return &follower{ctx: ctx, log: l, file: f}, nil
}

type follower struct {
	ctx    context.Context
	log    *Log
	file   *os.File
	offset int64
}

func (f *follower) Read(p []byte) (int, error) {
	for {
		f.log.mu.Lock()
		size, closed, changed := f.log.size, f.log.closed, f.log.changed
		f.log.mu.Unlock()
		if f.offset < size {
			n, err := f.file.ReadAt(p[:min(int64(len(p)), size-f.offset)], f.offset)
			f.offset += int64(n)
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if closed {
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		}
	}
}

func (f *follower) Close() error { return f.file.Close() }
