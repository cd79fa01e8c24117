// Package worker claims tasks from a task queue and runs them: it keeps the
// claim, executes the commands, keeps log and artifacts, and reports how the
// run ended. It speaks the published API only, so that it works with any
// deployment, and its payload is that of generic-worker (worker/payload).
//
// Of each run: claimWork; the log and its live reference; the payload is
// checked; the commands, while reclaimTask renews the claim and status tells
// whether the run is still this worker's; artifacts; the log is kept; the report.
// The first error decides how the run is resolved.
package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/internal/clock"
	"taskcluster/worker/feature/livelog"
	"taskcluster/worker/payload"
	"taskcluster/worker/task"
	"taskcluster/worker/upload"
)

// ErrIdle says that there was no work for the idle time-out.
var ErrIdle = errors.New("worker: no work for the idle time-out")

// Worker runs tasks of one task queue.
type Worker struct {
	cfg      Config
	parser   *payload.Parser
	queue    *queue.Client // with the worker's own credentials
	network  *http.Transport
	uploader *upload.Uploader
	livelog  *livelog.Server

	statusRefused sync.Once // says so

	killOnce sync.Once
	killed   chan struct{}
	runs     sync.WaitGroup
}

// New makes a worker. It does nothing until Run.
func New(cfg Config) (*Worker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Worker{cfg: cfg, network: client.NewTransport(), killed: make(chan struct{})}
	if w.parser, err = payload.NewParser(); err != nil {
		return nil, err
	}
	if w.queue, err = w.client(func(context.Context) (client.Credentials, error) { return cfg.Credentials, nil }); err != nil {
		return nil, err
	}
	w.uploader = &upload.Uploader{Transport: transport{w}, Pause: cfg.Retry.Upload}
	if cfg.LiveLogURL != "" {
		w.livelog = livelog.NewServer(cfg.LiveLogURL)
	}
	return w, nil
}

// LiveLogHandler serves live logs; it must be reachable at Config.LiveLogURL
// when that is set, and is nil otherwise.
func (w *Worker) LiveLogHandler() http.Handler {
	if w.livelog == nil {
		return nil
	}
	return w.livelog
}

// client makes a client of the queue.
func (w *Worker) client(source client.CredentialSource) (*queue.Client, error) {
	return queue.New(client.Config{
		RootURL: w.cfg.RootURL, CredentialSource: source, Transport: transport{w},
		Timeout: time.Minute, MaxBackoff: w.cfg.Retry.Call,
	})
}

// transport sends what is for the deployment through the configured transport.
type transport struct{ w *Worker }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if own := t.w.cfg.Transport; own != nil && r.URL.Scheme+"://"+r.URL.Host == t.w.cfg.RootURL {
		return own.RoundTrip(r)
	}
	return t.w.network.RoundTrip(r)
}

// Kill stops the worker at once: running tasks are killed and resolved as
// worker-shutdown, and Run returns.
func (w *Worker) Kill() { w.killOnce.Do(func() { close(w.killed) }) }

// Run claims and runs tasks until ctx ends or Kill is called. When ctx ends,
// running tasks have the grace time to finish; then they are killed and
// resolved as worker-shutdown, so that the queue runs them again elsewhere.
// What a claim under way still brings is resolved so at once.
// Run must be called once.
func (w *Worker) Run(ctx context.Context) error {
	defer w.network.CloseIdleConnections()
	unlock, err := w.prepareDir(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if w.livelog == nil {
		stop, err := w.serveLiveLogs()
		if err != nil {
			return err
		}
		defer stop()
	}
	running, kill := context.WithCancelCause(context.WithoutCancel(ctx))
	defer kill(nil)
	claiming, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-w.killed:
			stop()
			kill(errShutdown)
		case <-running.Done():
		}
	}()
	err = w.claimLoop(claiming, running)
	w.finish(ctx, kill)
	return err
}

// errShutdown ends runs when the worker stops.
var errShutdown = task.Fail(task.WorkerShutdown, errors.New("the worker is being shut down"))

// finish waits for the running tasks, with the grace time once ctx has ended.
func (w *Worker) finish(ctx context.Context, kill context.CancelCauseFunc) {
	done := make(chan struct{})
	go func() { w.runs.Wait(); close(done) }()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	over, cancel := w.cfg.Clock.After(w.cfg.Clock.Now().Add(w.cfg.Grace))
	defer cancel()
	select {
	case <-done:
		return
	case <-over:
		kill(errShutdown)
	}
	<-done
}

// maxClaim is the most that claimWork gives at a time.
const maxClaim = 32

// claimGrace is how long a claim that waits for work may still be answered
// when nobody wants its tasks any more. One cut off at once could be committed
// just then, and its runs would be lost until their claims expire.
const claimGrace = 2 * time.Second

// claim asks for tasks. When ctx ends, or idleAt has come (0: never), the queue
// has claimGrace to answer; when running ends, none. The error is ErrIdle when
// it did not answer after idleAt.
func (w *Worker) claim(ctx, running context.Context, want int, idleAt clock.Time) (*queue.ClaimWorkResponse, error) {
	asking, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	go func() {
		var idle <-chan struct{}
		if idleAt > 0 {
			due, stop := w.cfg.Clock.After(idleAt)
			defer stop()
			idle = due
		}
		cause := context.Canceled
		select {
		case <-idle:
			cause = ErrIdle
		case <-ctx.Done():
		case <-asking.Done():
			return
		}
		over, stop := w.cfg.Clock.After(w.cfg.Clock.Now().Add(claimGrace))
		defer stop()
		select {
		case <-over:
		case <-running.Done():
		case <-asking.Done():
		}
		cancel(cause)
	}()
	answer, err := w.queue.ClaimWork(asking, w.cfg.TaskQueueID, &queue.ClaimWorkRequest{
		Tasks: want, WorkerGroup: w.cfg.WorkerGroup, WorkerID: w.cfg.WorkerID,
	})
	if err != nil && context.Cause(asking) == ErrIdle {
		return nil, ErrIdle
	}
	return answer, err
}

// claimLoop claims tasks for free slots until ctx ends. The runs that it
// starts live in the context running; those claimed while the worker stops are
// given back.
func (w *Worker) claimLoop(ctx, running context.Context) error {
	slots := make(chan struct{}, w.cfg.Capacity) // one entry for each run
	started := 0
	var lastWork atomic.Int64 // a clock.Time
	worked := func() { lastWork.Store(int64(w.cfg.Clock.Now())) }
	worked()
	closing, give := context.WithCancelCause(running)
	give(errShutdown)
	pause := w.cfg.Retry.Claim
	for {
		free := take(ctx, slots)
		if free == 0 {
			return nil // stopped
		}
		want := min(free, maxClaim)
		if n := w.cfg.NumberOfTasks; n > 0 {
			want = min(want, n-started)
		}
		var idleAt clock.Time
		if w.cfg.IdleTimeout > 0 && free == w.cfg.Capacity {
			idleAt = clock.Time(lastWork.Load()).Add(w.cfg.IdleTimeout)
		}
		asked := time.Now()
		answer, err := w.claim(ctx, running, want, idleAt)
		got := 0
		if err == nil {
			got = len(answer.Tasks)
		}
		for range free - got {
			<-slots
		}
		alive := running
		if ctx.Err() != nil {
			alive = closing
		}
		for i := range got {
			w.runs.Go(func() {
				w.run(alive, &answer.Tasks[i])
				worked()
				<-slots
			})
		}
		started += got
		if n := w.cfg.NumberOfTasks; n > 0 && started >= n {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrIdle):
			return err
		case err != nil:
			w.cfg.Log.Error("claiming work failed", "taskQueueId", w.cfg.TaskQueueID, "error", err)
			w.wait(ctx, pause/2+rand.N(pause))
			pause = min(2*pause, time.Minute)
			continue
		case got > 0 || len(slots) > 0:
			worked()
		case w.cfg.IdleTimeout > 0 && w.cfg.Clock.Now().Sub(clock.Time(lastWork.Load())) >= w.cfg.IdleTimeout:
			return ErrIdle
		}
		if got == 0 && time.Since(asked) < w.cfg.Retry.Claim {
			w.wait(ctx, w.cfg.Retry.Claim) // the queue did not wait for work: do not spin
		}
		pause = w.cfg.Retry.Claim
	}
}

// take waits for a free slot, then takes all that are free, and returns how
// many; 0 when ctx ended.
func take(ctx context.Context, slots chan struct{}) (n int) {
	if ctx.Err() != nil {
		return 0
	}
	select {
	case slots <- struct{}{}:
		n = 1
	case <-ctx.Done():
		return 0
	}
	for {
		select {
		case slots <- struct{}{}:
			n++
		default:
			return n
		}
	}
}

func (w *Worker) wait(ctx context.Context, d time.Duration) {
	due, cancel := w.cfg.Clock.After(w.cfg.Clock.Now().Add(d))
	defer cancel()
	select {
	case <-due:
	case <-ctx.Done():
	}
}

// serveLiveLogs serves the logs of running tasks on an address of its own.
func (w *Worker) serveLiveLogs() (stop func(), err error) {
	listener, err := net.Listen("tcp", w.cfg.LiveLogListen)
	if err != nil {
		return nil, fmt.Errorf("worker: live logs cannot be served: %w", err)
	}
	w.livelog = livelog.NewServer("http://" + listener.Addr().String())
	server := &http.Server{Handler: w.livelog, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(listener) }()
	return func() {
		// Readers of logs that just ended get a moment to read the rest.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		<-done
	}, nil
}
