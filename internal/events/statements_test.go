package events

import (
	"slices"
	"testing"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, []store.Migrations{Migrations}, slices.Concat(
		store.Statements(logStmt), store.Statements(cursorStmt), store.Statements(deadStmt), store.Statements(trimStmt), store.Statements(portionStmt)))
}
