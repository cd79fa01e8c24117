//go:build unix

package testenv

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestPostgres(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), Postgres(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var encoding, fsync string
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_encoding'), current_setting('fsync')").Scan(&encoding, &fsync); err != nil {
		t.Fatal(err)
	}
	if encoding != "UTF8" || fsync != "off" {
		t.Fatalf("encoding %s, fsync %s", encoding, fsync)
	}
}
