// Package app is the composition root: it reads the settings, builds every part
// of the program with explicit calls from top to bottom, and starts and stops
// them in order. Nothing else knows all parts.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"taskcluster/client"
	"taskcluster/internal/api"
	"taskcluster/internal/blob"
	"taskcluster/internal/clock"
	"taskcluster/internal/config"
	"taskcluster/internal/events"
	"taskcluster/internal/events/amqp"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/obs"
	"taskcluster/internal/schema"
	"taskcluster/internal/site"
	"taskcluster/internal/store"
	"taskcluster/services/auth"
	"taskcluster/services/auth/broker"
	live "taskcluster/services/events"
	"taskcluster/services/object"
	"taskcluster/services/pulse"
	"taskcluster/services/purgecache"
	"taskcluster/services/queue"
	"taskcluster/worker"
)

// App is a running deployment, or one node of it.
type App struct {
	settings config.Settings
	rootURL  string
	rootEnv  string // path of root.env
	token    config.Secret
	log      *slog.Logger

	metrics  *obs.Metrics
	tracing  *obs.Tracing // nil: nothing is traced
	draining atomic.Bool  // no new work is to be sent here

	listener net.Listener
	store    *store.Store
	events   *events.Log
	relay    *amqp.Relay // nil without --amqp-url
	auth     *auth.Service
	queue    *queue.Service
	object   *object.Service
	purge    *purgecache.Service
	live     *live.Service
	pulse    *pulse.Service
	api      *api.Server
	handler  http.Handler
	server   *http.Server
	worker   *worker.Worker // nil without --worker
	loops    lifecycle.Group
	workers  lifecycle.Group
}

// ErrPortInUse says that the address to listen on is taken.
var ErrPortInUse = errors.New("the address is in use")

// New builds the program. It opens the data directory and the listening socket,
// so that what is wrong with either is found before anything is served.
func New(ctx context.Context, settings config.Settings, log *slog.Logger) (_ *App, err error) {
	tuneMemory()
	a := &App{settings: settings, log: log, metrics: obs.NewMetrics(Version().Version, Version().Commit)}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if err := checkOnly(settings); err != nil {
		return nil, err
	}
	if a.listener, err = listen(ctx, *settings.Listen); err != nil {
		return nil, err
	}
	a.rootURL = a.listeningURL()
	if a.tracing, err = newTracing(ctx, settings, log); err != nil {
		return nil, err
	}

	dir := *settings.DataDir
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	keys, err := a.openDatabase(ctx)
	if err == nil && keys == nil {
		keys, err = a.sharedKeys(ctx)
	}
	if err == nil {
		err = a.checkKeys(ctx, keys)
	}
	if err != nil {
		return nil, err
	}
	a.rootEnv = filepath.Join(dir, rootEnvName)
	if a.token, err = a.chooseRootToken(keys); err != nil {
		return nil, err
	}
	a.events = events.NewLog(a.store, events.Options{Log: log, Tracer: a.tracing.Tracer(), Retention: *settings.EventRetention})
	blobs, blobHandler, err := a.openBlobs(ctx, keys)
	if err != nil {
		return nil, err
	}
	blobs = blob.Measured(blobs, a.metrics.BlobOperation)

	a.auth, err = auth.New(auth.Config{
		Store: a.store, Log: a.events, Keys: keys, Logger: log,
		StaticClients:       staticClients(keys, a.token),
		WebsocktunnelSecret: inClear(settings.Websocktunnel),
		Brokers: broker.Settings{
			AWS: inClear(settings.AWSBuckets), Azure: inClear(settings.AzureAccounts), GCP: inClear(settings.GCPProjects),
			Sentry: inClear(settings.Sentry), GitHub: inClear(settings.GitHubApps),
		},
	})
	if err != nil {
		return nil, err
	}
	rooms := &router{} // filled below; the services call each other through it
	a.queue, err = queue.New(queue.Config{
		Objects: a.reach("object", rooms),
		Store:   a.store, Log: a.events, Blob: blobs, Logger: log,
		Credentials:  serviceCredentials(keys, "queue"),
		ClaimTimeout: *settings.ClaimTimeout, MaxDependencies: *settings.MaxDependencies,
		MaxDeadline: time.Duration(*settings.MaxDeadlineDays) * 24 * time.Hour,
	})
	if err != nil {
		return nil, err
	}

	if a.object, err = a.newObject(ctx, blobs); err != nil {
		return nil, err
	}

	a.purge, err = purgecache.New(purgecache.Config{Store: a.store, Logger: log})
	if err != nil {
		return nil, err
	}
	if a.live, err = live.New(live.Config{Log: a.events, Logger: log}); err != nil {
		return nil, err
	}

	if a.pulse, err = a.newPulse(keys); err != nil {
		return nil, err
	}
	if err := a.newRelay(); err != nil {
		return nil, err
	}
	services := a.served(a.services()...)
	var sources []schema.Source
	var names []string
	for _, s := range services {
		sources = append(sources, s.Schemas)
		names = append(names, s.Name)
	}
	schemas, err := schema.Load(sources...)
	if err != nil {
		return nil, err
	}
	a.publishFigures(a.metrics)
	apiServer, err := api.New(api.Options{
		RootURL: a.rootURL, Schemas: schemas, Auth: a.auth, Clock: clock.Real{}, Log: log,
		TrustProxy: *settings.TrustProxy, Version: Version(), Metrics: a.metrics, Tracer: a.tracing.Tracer(),
	}, services...)
	if err != nil {
		return nil, err
	}

	a.api = apiServer
	rooms.api, rooms.metrics, rooms.blobs, rooms.health = apiServer, a.metrics.Handler(), blobHandler, a.newHealth()
	rooms.site = site.New(site.Config{Log: a.events, Auth: a.auth, Logger: log, Version: Version().Version, Services: names})
	a.handler = rooms
	if *settings.Worker {
		if a.worker, err = a.localWorker(keys); err != nil {
			return nil, err
		}
		rooms.liveLogs = http.StripPrefix(strings.TrimSuffix(liveLogPath, "/"), a.worker.LiveLogHandler())
	}
	served := a.handler
	if *settings.ForceSSL {
		served = api.ForceSSL(served)
	}
	a.server = &http.Server{
		Handler:           a.partWhenDraining(served),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute, // of a request and its body; artifact uploads extend it while bytes arrive
		// Of an answer, parked claims included. Artifacts, live logs and followed
		// events, which last, have a limit for each step instead.
		WriteTimeout:   2 * time.Minute,
		IdleTimeout:    90 * time.Second,
		MaxHeaderBytes: 64 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return a, nil
}

// reach is how a service reaches another one: without a socket if this
// process serves it.
func (a *App) reach(service string, rooms *router) *client.Config {
	cfg := &client.Config{RootURL: a.rootURL}
	if a.serves(service) {
		cfg.Transport = client.InProcess(rooms)
	}
	return cfg
}

// serves tells whether this process serves a service, and does its background
// work.
func (a *App) serves(service string) bool {
	return a.settings.Only == nil || slices.Contains(*a.settings.Only, service)
}

// services are all services as data, which an app that serves nothing has, too.
func (a *App) services() []api.Service {
	return []api.Service{a.auth.API(), a.queue.API(), a.object.API(), a.purge.API(), a.live.API(), a.pulse.API()}
}

// served picks the services that this process is to serve.
func (a *App) served(all ...api.Service) []api.Service {
	if a.settings.Only == nil {
		return all
	}
	return slices.DeleteFunc(all, func(s api.Service) bool { return !slices.Contains(*a.settings.Only, s.Name) })
}

// checkOnly refuses names of services that this program does not have, and a
// worker without the queue that it takes its tasks from.
func checkOnly(settings config.Settings) error {
	if settings.Only == nil {
		return nil
	}
	var known []string
	for _, s := range new(App).services() {
		known = append(known, s.Name)
	}
	for _, name := range *settings.Only {
		if !slices.Contains(known, name) {
			return fmt.Errorf("setting only: there is no service %q; this version has %s", name, strings.Join(known, ", "))
		}
	}
	if *settings.Worker && !slices.Contains(*settings.Only, "queue") {
		return errors.New("setting worker: the local worker needs the queue, which setting only leaves out")
	}
	return nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen on %s: another program uses this port; stop it, or choose another address with --listen (%w)", addr, ErrPortInUse)
	}
	why := ""
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EACCES):
		why = "; choose a port above 1023 with --listen, or ask the system for the right to use this one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		why = "; this machine does not have the address: choose one that it has, or 0.0.0.0 for all, with --listen"
	}
	return nil, fmt.Errorf("cannot listen on %s: %w%s", addr, err, why)
}

// prepareDir makes the data directory, and sees that files can be made in it.
func prepareDir(dir string) error {
	const other = "choose another with --data-dir, or give this one to the user who runs serve"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w; %s", err, other)
	}
	f, err := os.CreateTemp(dir, ".try-*")
	if err != nil {
		return fmt.Errorf("the data directory %s cannot be written: %w; %s", dir, err, other)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// listeningURL is the root URL: the one that was set, or the one that the
// listening socket gives.
func (a *App) listeningURL() string {
	if a.settings.RootURL != nil {
		return *a.settings.RootURL
	}
	host, _, _ := net.SplitHostPort(*a.settings.Listen)
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(a.listener.Addr().(*net.TCPAddr).Port))
}

// RootURL is the URL that the deployment is reached by.
func (a *App) RootURL() string { return a.rootURL }

// RootEnv is the path of the file with the root client's credentials.
func (a *App) RootEnv() string { return a.rootEnv }

// Start begins to serve.
func (a *App) Start(ctx context.Context) error {
	if err := a.writeRootEnv(); err != nil {
		return err
	}
	a.loops.Go("events", a.events.Run)
	if a.relay != nil {
		if err := a.relay.Prepare(ctx); err != nil {
			return err
		}
		a.loops.Go("amqp", a.relay.Run)
	}
	a.loops.Go("audit", func(ctx context.Context) error { return api.TrimAudit(ctx, a.store) })
	a.auth.Start(&a.loops) // it knows who calls, whatever is served
	if a.serves("queue") {
		a.queue.Start(&a.loops)
	}
	if a.serves("object") {
		a.object.Start(&a.loops)
	}
	if a.serves("purge-cache") {
		a.purge.Start(&a.loops)
	}
	if a.serves("events") {
		a.live.Start(&a.loops)
	}
	if a.serves("pulse") {
		a.pulse.Start(&a.loops)
	}
	if !a.store.Shared() {
		a.loops.Go("admin", a.serveAdmin)
	}
	a.loops.Go("http", func(context.Context) error {
		if err := a.server.Serve(api.Listen(a.listener)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	if a.worker != nil {
		// What it held when this program was last killed is lost: run it again
		// now, not when the claims expire.
		lost, err := a.queue.WorkerGone(ctx, localTaskQueue, localGroup, a.localWorkerID())
		if err != nil {
			return err
		}
		if lost > 0 {
			a.log.Warn("the local worker was killed while it ran tasks; they are retried", "tasks", lost)
		}
		a.workers.Go("worker", a.worker.Run)
	}
	a.log.Info("serving", "rootUrl", a.rootURL, "listen", a.listener.Addr().String(), "dataDir", *a.settings.DataDir,
		"worker", a.worker != nil, "version", Version().Version)
	return nil
}

// Failed is closed when a part has failed for good; Stop then says why.
func (a *App) Failed() <-chan struct{} { return a.loops.Failed() }

// Stop ends everything in order: for the time of the setting drain-delay all is
// served while /readyz tells that no more is to be sent here, then the worker
// finishes or gives up its tasks while the services still answer, then no new
// requests are taken, those under way are answered, leases go to other
// processes, and the store is closed. ctx bounds the wait.
func (a *App) Stop(ctx context.Context) error {
	if !a.draining.Swap(true) && *a.settings.DrainDelay > 0 {
		select {
		case <-time.After(*a.settings.DrainDelay):
		case <-ctx.Done():
		case <-a.Failed():
		}
	}
	a.live.Drain()  // streams end, so that clients go to another node
	a.queue.Drain() // parked claims answer at once, so that none is cut off
	err := a.workers.Stop(ctx)
	if e := a.server.Shutdown(ctx); e != nil {
		a.server.Close()
		err = errors.Join(err, e)
	}
	err = errors.Join(err, a.loops.Stop(ctx), a.tracing.Stop(ctx))
	return errors.Join(err, a.close())
}

// partWhenDraining closes a connection with its next answer while the program
// drains: whoever keeps connections makes the next one elsewhere, and none is cut
// just as a request travels on it.
func (a *App) partWhenDraining(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.draining.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

func (a *App) close() error {
	var err error
	if a.listener != nil {
		a.listener.Close() // the server may have closed it already
	}
	if a.store != nil {
		err = a.store.Close()
		a.store = nil
	}
	return err
}
