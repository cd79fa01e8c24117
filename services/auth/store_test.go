package auth

import (
	"testing"

	"taskcluster/internal/store"
	"taskcluster/internal/store/storetest"
)

func TestStatements(t *testing.T) {
	storetest.PrepareAll(t, []store.Migrations{Migrations()}, Statements())
}
