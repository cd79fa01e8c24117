package api

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, []store.Migrations{Migrations()}, Statements())
}

var readAudit = store.SQL(`SELECT entries FROM api_audit ORDER BY id`)

func auditRows(t *testing.T, s *store.Store) (rows [][]AuditEntry) {
	t.Helper()
	err := s.Read(t.Context(), func(tx *store.Tx) error {
		rows = nil
		r := tx.Query(readAudit)
		defer r.Close()
		for r.Next() {
			var text []byte
			if err := r.Scan(&text); err != nil {
				return err
			}
			var entries []AuditEntry
			if err := json.Unmarshal(text, &entries); err != nil {
				return err
			}
			rows = append(rows, entries)
		}
		return r.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestAudit: calls of one commit share a row, which is rolled back with them
// and goes after the retention.
func TestAudit(t *testing.T) {
	c := clock.NewFake(clock.Of(time.Now()))
	s := storetest.Open(t, store.Options{Clock: c, Migrations: []store.Migrations{Migrations()}})
	server, _ := newTestServer(t)
	r := httptest.NewRequest("GET", "http://tc.test/api/test/v1/single/Hello", nil)
	r.Header.Set("Authorization", "a:b")
	m, params, _ := server.services[0].lookup("GET", "scoped/x")
	call := &Call{Context: t.Context(), Request: r, server: server, method: m, params: params}
	err := s.Write(t.Context(), func(tx *store.Tx) error {
		call.Audit(tx)
		call.Audit(tx)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), func(tx *store.Tx) error {
		call.Audit(tx)
		return context.Canceled
	})
	if err == nil {
		t.Fatal("the operation was to fail")
	}
	rows := auditRows(t, s)
	if len(rows) != 1 || len(rows[0]) != 2 {
		t.Fatalf("%v", rows)
	}
	if e := rows[0][0]; e.ClientID != "someone" || e.Method != "scoped" || e.Service != "test" || e.Params["name"] != "x" {
		t.Errorf("%+v", e)
	}
	for _, days := range []int{29, 2} {
		c.Advance(time.Duration(days) * 24 * time.Hour)
		if err := trimAudit(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if left := len(auditRows(t, s)); left != map[int]int{29: 1, 2: 0}[days] {
			t.Errorf("%d days later %d rows are left", days, left)
		}
	}
}
