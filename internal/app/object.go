package app

import (
	"log/slog"

	"taskcluster/internal/blob"
	"taskcluster/internal/store"
	"taskcluster/services/object"
)

// The backend that keeps objects where nothing else is set: the deployment's
// own blob store. The artifacts of tasks are in there too, under keys that
// begin with a taskId, which the prefix is not.
const (
	ownBackend = "artifacts"
	ownPrefix  = "object/"
)

// newObject builds the object service.
func newObject(s *store.Store, blobs blob.Store, log *slog.Logger) (*object.Service, error) {
	return object.New(object.Config{
		Store: s, Logger: log,
		Backends: map[string]object.Backend{ownBackend: {Blob: blobs, Prefix: ownPrefix}},
		Map:      []object.Rule{{BackendID: ownBackend}},
	})
}
