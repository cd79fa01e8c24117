package queue

import (
	"testing"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, []store.Migrations{Migrations()}, store.Statements(stmt))
}
