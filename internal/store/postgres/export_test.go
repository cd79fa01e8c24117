package postgres

import (
	"context"
	"time"

	"taskcluster/internal/store"
)

// OpenImpatient is Open with another Patience.
func OpenImpatient(ctx context.Context, url string, opts store.Options, patience time.Duration) (*store.Store, error) {
	e, err := open(ctx, url, opts)
	if err != nil {
		return nil, err
	}
	e.patience = patience
	return store.New(ctx, e, opts)
}

// OpenHasty is Open with other limits of time.
func OpenHasty(ctx context.Context, url string, opts store.Options, answer, idle time.Duration) (*store.Store, error) {
	e, err := openWith(ctx, url, opts, answer, idle)
	if err != nil {
		return nil, err
	}
	return store.New(ctx, e, opts)
}

// Classify is for a test of the table of codes.
var Classify = classify
