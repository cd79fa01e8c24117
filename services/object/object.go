// Package object is the object service: it keeps named data that never
// changes once it is uploaded, in backends that are blob stores, until it
// expires. Callers upload and download by URLs of the backend; only small data
// passes through the service.
//
// What it promises:
//
//   - An object is seen only after its upload was finished. Whether its data
//     arrived is for its uploader to know, and for hashes to prove.
//   - What was said of an object (project, expiration, hashes) is never
//     changed by a later call; hashes may be added until it is finished.
//   - Data is deleted before the row that knows of it, and nobody is led to it
//     from the moment that begins. A crash in between leaves a row that nobody
//     sees, and the next run goes on. The row stays for as long as a URL may
//     take data, so that data without a row does not remain.
//   - An upload that is not finished within a day is removed, and its name is
//     free again.
package object

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"taskcluster/internal/blob"
	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// Config is what a Service needs. Store and at least one backend must be
// given.
type Config struct {
	Store *store.Store // opened with Migrations() and api.Migrations()
	// Backends keep the data, by id. An object remembers the id of its backend:
	// if that is taken away here, the object can be neither read nor removed
	// until it is back.
	Backends map[string]Backend
	// Map chooses the backend of a new object: that of the first rule that
	// matches. With none that does, the object is refused.
	Map []Rule
	// CDN answers downloads of matching names in place of the backend.
	CDN    []CDN
	Clock  clock.Clock  // the machine's when nil
	Logger *slog.Logger // nothing is logged when nil
}

// Backend is a place for the data of objects.
type Backend struct {
	Blob blob.Store
	// Prefix stands before the names of objects in their keys, so that a blob
	// store can serve others as well.
	Prefix string
}

// Service is the object service.
type Service struct {
	store    *store.Store
	backends map[string]Backend
	rules    []Rule
	cdn      []CDN
	clock    clock.Clock
	logger   *slog.Logger
}

// New makes the service. It refuses rules that name no backend.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || len(cfg.Backends) == 0 {
		return nil, errors.New("object: Store and Backends are required")
	}
	s := &Service{
		store: cfg.Store, backends: cfg.Backends, rules: cfg.Map, cdn: cfg.CDN,
		clock: cfg.Clock, logger: cfg.Logger,
	}
	if s.clock == nil {
		s.clock = clock.Real{}
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	for id, b := range s.backends {
		if b.Blob == nil {
			return nil, fmt.Errorf("object: backend %q has no blob store", id)
		}
	}
	for i, r := range s.rules {
		if _, ok := s.backends[r.BackendID]; !ok {
			return nil, fmt.Errorf("object: backendMap[%d] has invalid backendId %s", i, r.BackendID)
		}
	}
	return s, nil
}

// The times that are published.
const (
	// uploadTime is how long an upload may take from its beginning to its end.
	uploadTime = 24 * time.Hour
	// putValid is how long a URL takes uploads, and putGrace what it takes
	// longer than it says, for clients whose clocks are behind.
	putValid = 45 * time.Minute
	putGrace = 10 * time.Second
	// inlineTimeout bounds an upload of the few bytes that a call carries, so that
	// its caller is told to try again before he gives up himself.
	inlineTimeout = 10 * time.Second
	// simpleValid is how long the URL of a simple download works.
	simpleValid = 30 * time.Minute
	// getTold is how long the URL of a getUrl download is said to work, and
	// getValid how long it does.
	getTold  = time.Minute
	getValid = 2 * time.Minute
)
