package blob

import (
	"context"
	"errors"
	"io"
	"time"
)

// Measured is a Store that tells report of each operation on s: its name
// ("put", "open", "stat", "delete", "sign"), how it ended ("ok", "not-found",
// "refused", "failed"), and how long it took; of "open", until the first byte
// could be read. What workers and people transfer by signed URLs is not among
// them.
func Measured(s Store, report func(operation, outcome string, took time.Duration)) Store {
	return &measured{s, report}
}

type measured struct {
	Store
	report func(operation, outcome string, took time.Duration)
}

func (m *measured) done(operation string, began time.Time, err error) {
	m.report(operation, outcome(err), time.Since(began))
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrNotFound):
		return "not-found"
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrTooLarge), errors.Is(err, context.Canceled):
		return "refused"
	}
	return "failed"
}

func (m *measured) PutURL(ctx context.Context, key string, u Upload, valid time.Duration) (string, error) {
	began := time.Now()
	url, err := m.Store.PutURL(ctx, key, u, valid)
	m.done("sign", began, err)
	return url, err
}

func (m *measured) GetURL(ctx context.Context, key string, valid time.Duration) (string, error) {
	began := time.Now()
	url, err := m.Store.GetURL(ctx, key, valid)
	m.done("sign", began, err)
	return url, err
}

func (m *measured) Put(ctx context.Context, key string, meta Info, body io.Reader) (Info, error) {
	began := time.Now()
	info, err := m.Store.Put(ctx, key, meta, body)
	m.done("put", began, err)
	return info, err
}

func (m *measured) Open(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	began := time.Now()
	body, info, err := m.Store.Open(ctx, key)
	m.done("open", began, err)
	return body, info, err
}

func (m *measured) Stat(ctx context.Context, key string) (Info, error) {
	began := time.Now()
	info, err := m.Store.Stat(ctx, key)
	m.done("stat", began, err)
	return info, err
}

func (m *measured) Delete(ctx context.Context, keys ...string) error {
	began := time.Now()
	err := m.Store.Delete(ctx, keys...)
	m.done("delete", began, err)
	return err
}
