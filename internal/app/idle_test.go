package app

import (
	"testing"
	"time"

	"taskcluster/internal/testenv"
)

// TestIdleNodes: nodes that nobody calls leave the database alone, but for at most
// a statement a second each.
func TestIdleNodes(t *testing.T) {
	env := onPostgres(t, testenv.Postgres(t))
	dirs := [2]string{t.TempDir(), t.TempDir()}
	var nodes [2]*App
	nodes[0] = started(t, settings(t, dirs[0], env))
	join(t, dirs[0], dirs[1])
	nodes[1] = started(t, settings(t, dirs[1], env))
	const seconds = 12
	// They are idle when the work of their start is done.
	for deadline := time.Now().Add(60 * time.Second); ; {
		before := nodes[0].store.Stats().Statements + nodes[1].store.Stats().Statements
		time.Sleep(time.Second)
		if nodes[0].store.Stats().Statements+nodes[1].store.Stats().Statements <= before+2 || time.Now().After(deadline) {
			break
		}
	}
	var before [2]int64
	for i, a := range nodes {
		before[i] = a.store.Stats().Statements
	}
	time.Sleep(seconds * time.Second)
	for i, a := range nodes {
		n := a.store.Stats().Statements - before[i]
		t.Logf("node %d: %d statements in %d seconds", i, n, seconds)
		if n > seconds {
			t.Errorf("node %d ran %d statements in %d seconds", i, n, seconds)
		}
	}
}
