package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/store/postgres"
	"taskcluster/internal/store/storetest"
	"taskcluster/internal/testenv"
)

func TestConformance(t *testing.T) {
	server := testenv.Postgres(t)
	var n atomic.Int64
	storetest.Run(t, storetest.Opener{
		New:  func(t testing.TB) string { return createDatabase(t, server, fmt.Sprintf("conformance%d", n.Add(1))) },
		Open: postgres.Open,
	})
}

// createDatabase makes an empty database and returns its connection string.
func createDatabase(t testing.TB, server, name string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}
