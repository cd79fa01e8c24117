package queue

import (
	"slices"
	"testing"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, []store.Migrations{Migrations()}, slices.Concat(store.Statements(stmt), store.Statements(figuresStmt), store.Statements(expireStmt), store.Statements(tableStmt), store.Statements(setStmt), store.Statements(orderCheck)))
}
