package postgres

import (
	"context"
	"errors"
	"time"

	"taskcluster/internal/store"
)

// Missing lists the migrations that opening the database that url names would
// apply. It changes nothing.
func Missing(ctx context.Context, url string, all []store.Migrations) (missing []store.MissingStep, err error) {
	e, err := open(ctx, url, store.Options{Readers: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	c, err := e.Reader(ctx)
	if err != nil {
		return nil, err
	}
	defer e.Release(c)
	return store.Plan(ctx, store.Postgres, e.Where(), c, all)
}

var nowStmt = store.SQL(`SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)`)

// Now is the time of the server's clock.
func Now(ctx context.Context, url string) (now time.Time, err error) {
	e, err := open(ctx, url, store.Options{Readers: 1})
	if err != nil {
		return now, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	rows, err := e.writer.Query(nowStmt, nil)
	if err != nil {
		return now, err
	}
	defer rows.Close()
	more, err := rows.Next()
	if err == nil && !more {
		err = errors.New("PostgreSQL does not tell the time")
	}
	if err != nil {
		return now, err
	}
	return time.UnixMicro(rows.Column(0).Int), nil
}
