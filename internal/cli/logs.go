package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
)

// The names under which workers keep a task's log.
const (
	liveLog    = "public/logs/live.log"
	backingLog = "public/logs/live_backing.log"
)

// logReader reads logs of runs, while they are written and afterwards.
type logReader struct {
	queue *queue.Client
	http  *http.Client
	sleep func(ctx context.Context, d time.Duration) error
}

// errNoLog says that a run ended without a log.
var errNoLog = errors.New("the run has no log")

// Waits of a reader that follows, and how often it tries for the log of a
// finished run before it gives up.
const (
	logPause = 500 * time.Millisecond
	logTries = 5
)

// idle is how long a log that may still grow must be silent to count as read.
const idle = time.Second

// errQuiet says that a log was read which may still grow.
var errQuiet = errors.New("no more has been logged so far")

// present copies to w what a run has logged so far. The error is errQuiet if
// there may come more.
func (r *logReader) present(ctx context.Context, taskID string, runID int, done bool, w io.Writer) error {
	return r.copy(ctx, taskID, runID, done, false, &skipper{w: w})
}

// follow copies a run's log to w until the run is resolved. A connection that
// breaks is taken up again where it broke.
func (r *logReader) follow(ctx context.Context, taskID string, runID int, w io.Writer) error {
	counted := &skipper{w: w}
	for failures := 0; ; {
		// The state is asked before the log: if the run was resolved then, the
		// log that is read now is complete.
		done, err := r.resolved(ctx, taskID, runID)
		if err != nil {
			return err
		}
		err = r.copy(ctx, taskID, runID, done, true, counted)
		missing := client.IsNotFound(err)
		switch {
		case (err == nil || errors.Is(err, errQuiet)) && done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case counted.failed != nil:
			return counted.failed
		case missing && done:
			return errNoLog
		case err != nil && !missing && !errors.Is(err, errUnreachable):
			return err
		case err != nil && done:
			if failures++; failures == logTries {
				return err
			}
		}
		if err := r.sleep(ctx, logPause); err != nil {
			return err
		}
	}
}

// resolved reports whether a run is resolved.
func (r *logReader) resolved(ctx context.Context, taskID string, runID int) (bool, error) {
	reply, err := statusOf(ctx, r.queue, taskID)
	if err != nil {
		return false, err
	}
	if runID >= len(reply.Status.Runs) {
		return resolved(reply.Status.State), nil // the task ended without this run
	}
	return resolved(reply.Status.Runs[runID].State), nil
}

// copy reads the log once, from its beginning. Of a run that has been resolved
// the kept log is read when the live one is not there, or still grows: the
// worker may not have noticed yet. A log that grows is read to its end only to
// follow a run that goes on; otherwise until it falls silent.
func (r *logReader) copy(ctx context.Context, taskID string, runID int, done, follow bool, w *skipper) error {
	where, err := content(ctx, r.queue, taskID, runID, liveLog)
	grows := err == nil && where.StorageType == "reference"
	if done && (grows || client.IsNotFound(err)) {
		url, keptErr := locate(ctx, r.queue, taskID, runID, backingLog)
		switch {
		case keptErr == nil:
			if keptErr = r.read(ctx, url, w); keptErr == nil || !grows || w.failed != nil {
				return keptErr
			}
		case !grows:
			return keptErr
		}
	}
	switch {
	case err != nil:
		return err
	case grows && (done || !follow):
		return r.readPresent(ctx, where.URL, done, w)
	}
	return r.read(ctx, where.URL, w)
}

// read copies the bytes at a storage URL.
func (r *logReader) read(ctx context.Context, url string, w *skipper) error {
	body, err := open(ctx, r.http, url)
	if err != nil {
		return err
	}
	defer body.Close()
	w.rewind()
	if _, err := io.Copy(w, body); err != nil {
		return errors.Join(errUnreachable, err)
	}
	return nil
}

// readPresent is read until nothing has come for a while.
func (r *logReader) readPresent(ctx context.Context, url string, done bool, w *skipper) error {
	limited, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(10*idle, cancel) // for the first byte
	defer timer.Stop()
	w.heard = func() { timer.Reset(idle) }
	defer func() { w.heard = nil }()
	err := r.read(limited, url, w)
	switch {
	case limited.Err() == nil || ctx.Err() != nil || w.failed != nil:
		return err
	case done && w.at == 0:
		return fmt.Errorf("%w: the worker does not answer", errUnreachable)
	}
	return errQuiet
}

// skipper passes on what lies behind that which it has passed on before, for a
// reader that begins anew.
type skipper struct {
	w      io.Writer
	passed int64  // bytes passed on in all
	at     int64  // position of the present reading
	failed error  // of w
	heard  func() // called at each Write, unless it is nil
}

func (s *skipper) rewind() { s.at = 0 }

func (s *skipper) Write(p []byte) (int, error) {
	if s.heard != nil {
		s.heard()
	}
	fresh := p
	if known := s.passed - s.at; known > 0 {
		fresh = p[min(known, int64(len(p))):]
	}
	s.at += int64(len(p))
	if len(fresh) == 0 {
		return len(p), nil
	}
	n, err := s.w.Write(fresh)
	s.passed += int64(n)
	if err != nil {
		s.failed = err
		return 0, err
	}
	return len(p), nil
}

// maxLine is where a line without an end is broken.
const maxLine = 64 << 10

// lines hands whole lines to emit, without their ends. A carriage return, by
// which programs redraw their progress, ends a line too.
type lines struct {
	emit func(line []byte)
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			l.rest = append(l.rest, p...)
			for len(l.rest) >= maxLine {
				l.emit(l.rest[:maxLine])
				l.rest = append(l.rest[:0], l.rest[maxLine:]...)
			}
			return n, nil
		}
		if len(l.rest) > 0 {
			l.rest = append(l.rest, p[:end]...)
			l.emit(bytes.TrimSuffix(l.rest, []byte("\r")))
			l.rest = l.rest[:0]
		} else {
			l.emit(bytes.TrimSuffix(p[:end], []byte("\r")))
		}
		p = p[end+1:]
	}
	return n, nil
}

// close emits what has no line end.
func (l *lines) close() {
	if len(l.rest) > 0 {
		l.emit(l.rest)
		l.rest = nil
	}
}

// logLine is a line of a followed log in JSON.
type logLine struct {
	Type   string `json:"type"` // "log"
	TaskID string `json:"taskId"`
	RunID  int    `json:"runId"`
	Name   string `json:"name,omitempty"` // of the task, where it is known
	Line   string `json:"line"`
}

// locked makes a writer safe for concurrent use, one Write at a time.
type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func runText(runID int) string { return strconv.Itoa(runID) }
