package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"taskcluster/internal/store"
	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/storetest"
	"taskcluster/internal/testenv"
)

// server is the one that these tests share.
var server *testenv.PostgresServer

func TestMain(m *testing.M) {
	var err error
	if server, err = testenv.StartPostgres(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Opener{New: newDatabase, Open: postgres.Open})
}

var databases atomic.Int64

// newDatabase makes an empty database and returns its connection string.
func newDatabase(t testing.TB) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	name := fmt.Sprintf("test%d", databases.Add(1))
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func TestOpen(t *testing.T) {
	ctx := t.Context()

	// Two at once: one migrates, the other waits.
	shared := newDatabase(t)
	errs := make(chan error)
	for range 4 {
		go func() {
			s, err := postgres.Open(ctx, shared, store.Options{Migrations: items})
			if err == nil {
				err = s.Close()
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Errorf("opened at once: %v", err)
		}
	}

	// The server of tests answers before it flushes; the session does not.
	s := openItems(t, newDatabase(t))
	setting := store.SQL(`SELECT current_setting('synchronous_commit')`)
	for what, run := range map[string]func(context.Context, func(*store.Tx) error) error{"write": s.Write, "read": s.Read} {
		var value string
		if err := run(ctx, func(tx *store.Tx) error { return tx.Row(setting).Scan(&value) }); err != nil || value != "on" {
			t.Errorf("%s: synchronous_commit is %q, %v", what, value, err)
		}
	}

	conn, err := pgx.Connect(ctx, server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, text := range []string{
		`CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0`,
	} {
		if _, err := conn.Exec(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	host := strings.TrimSuffix(strings.TrimPrefix(server.URL, "postgres://test@"), "/postgres?sslmode=disable")
	for name, c := range map[string]struct{ url, says string }{
		"another encoding":   {"postgres://test:s3cret@" + host + "/ascii?sslmode=disable", "ENCODING 'UTF8'"},
		"no such database":   {"postgres://test:s3cret@" + host + "/nowhere?sslmode=disable", `"nowhere" does not exist`},
		"nobody there":       {"postgres://test:s3cret@127.0.0.1:1/postgres?sslmode=disable", "127.0.0.1:1"},
		"no TLS":             {"postgres://test:s3cret@" + host + "/postgres?sslmode=require", "TLS"},
		"malformed":          {"postgres://test:s3cret/x@" + host + "/postgres", "percent-encoding"},
		"malformed settings": {"host=127.0.0.1 port=abc password=s3cret", "percent-encoding"},
	} {
		s, err := postgres.Open(ctx, c.url, store.Options{})
		if err == nil {
			s.Close()
			t.Errorf("%s: it was opened", name)
			continue
		}
		if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestColumns(t *testing.T) {
	s := openItems(t, newDatabase(t))
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		var small, medium, large int64
		var yes, no bool
		var text string
		err := tx.Row(store.SQL(`SELECT CAST(-2 AS SMALLINT), CAST(-3 AS INTEGER), CAST(-4 AS BIGINT), 1 = 1, 1 = 2, CAST('v' AS VARCHAR(9))`)).
			Scan(&small, &medium, &large, &yes, &no, &text)
		if err != nil || small != -2 || medium != -3 || large != -4 || !yes || no || text != "v" {
			t.Errorf("got %d %d %d %v %v %q, %v", small, medium, large, yes, no, text, err)
		}
		// Rows that another statement parts from the connection keep their values.
		rows := tx.Query(store.SQL(`SELECT CAST(g AS BIGINT), repeat(CAST(g AS TEXT), 1000) FROM generate_series(1, 200) AS g ORDER BY g`))
		for want := int64(1); rows.Next(); want++ {
			if _, err := backend(tx); err != nil {
				return err
			}
			var n int64
			if err := rows.Scan(&n, &text); err != nil || n != want || text != strings.Repeat(fmt.Sprint(n), 1000) {
				t.Fatalf("row %d: %d, %.20q, %v", want, n, text, err)
			}
		}
		return rows.Err()
	})
	if err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		text string
		arg  any
	}{
		"a number for text":           {`SELECT CAST(? AS TEXT)`, 1},
		"text for a number":           {`SELECT CAST(? AS BIGINT)`, "1"},
		"text for bytes":              {`SELECT CAST(? AS BYTEA)`, "1"},
		"a number beyond its type":    {`SELECT CAST(? AS INTEGER)`, 1 << 40},
		"a number that is no boolean": {`SELECT CAST(? AS BOOLEAN)`, 2},
	} {
		err := s.Read(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(store.SQL(c.text), c.arg)
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "argument 1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCodes(t *testing.T) {
	for code, want := range map[string]error{
		"53100": store.ErrDiskFull, "58030": store.ErrIO, "XX001": store.ErrDamaged, "42P01": store.ErrAltered,
		"42703": store.ErrAltered, "23505": store.ErrConflict, "23503": store.ErrConflict, "23514": store.ErrConflict,
		"57P01": store.ErrUnavailable, "57P03": store.ErrUnavailable, "08006": store.ErrUnavailable,
		"53300": store.ErrUnavailable, "25006": store.ErrUnavailable,
	} {
		err, _ := postgres.Classify(&pgconn.PgError{Code: code, Message: "m", Detail: "Key (token)=(s3cret)"})
		if !errors.Is(err, want) || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), code) {
			t.Errorf("%s: %v", code, err)
		}
	}
	if err, lost := postgres.Classify(io.ErrUnexpectedEOF); !errors.Is(err, store.ErrUnavailable) || !lost {
		t.Errorf("%v, lost %v", err, lost)
	}
	if err, lost := postgres.Classify(&pgconn.PgError{Code: "42601", Severity: "ERROR", Message: "syntax error"}); errors.Is(err, store.ErrUnavailable) || lost {
		t.Errorf("%v, lost %v", err, lost)
	}
}
