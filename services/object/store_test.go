package object

import (
	"testing"

	"taskcluster/internal/api"
	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, []store.Migrations{api.Migrations(), Migrations()}, store.Statements(stmt))
}
