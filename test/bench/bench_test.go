// Package bench runs `taskcluster bench` as an operator would. It asserts what
// does not depend on the machine: that every part was measured, and how many
// statements an operation and an idle worker cost. Rates and times are for
// people to read.
package bench

import (
	"encoding/json"
	"os"
	"testing"

	"taskcluster/test/harness"
)

type throughput struct {
	Operations             int64
	PerSecond              float64
	StatementsPerOperation float64
	Milliseconds           map[string]struct{ P50, P99, Max float64 }
}

type report struct {
	CreateTask                       throughput
	ClaimWork1ReportCompleted        throughput
	ClaimWork32ReportCompleted       throughput
	PendingToClaimedMilliseconds     struct{ P50 float64 }
	ParkedWorkers                    struct{ Workers, Statements float64 }
	EmptyStartToFirst200Milliseconds float64
}

func TestBench(t *testing.T) {
	binary := harness.Binary(t)
	stdout, stderr, status := harness.Run(t, binary, os.Environ(), "bench", "--self", "--dir", t.TempDir(), "--duration", "1s", "--clients", "16", "--parked", "300")
	if status != 0 {
		t.Fatalf("exit status %d\n%s", status, stderr)
	}
	var r report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	t.Logf("%s", stdout)
	for _, part := range []struct {
		name           string
		got            throughput
		mostStatements float64 // per task; a group commit of one task is the worst case
		calls          []string
	}{
		{"createTask", r.CreateTask, 8, []string{"createTask"}},
		{"claimWork(1)", r.ClaimWork1ReportCompleted, 16, []string{"claimWork", "reportCompleted"}},
		{"claimWork(32)", r.ClaimWork32ReportCompleted, 12, []string{"claimWork", "reportCompleted"}},
	} {
		if part.got.Operations == 0 || part.got.PerSecond == 0 {
			t.Errorf("%s was not measured: %+v", part.name, part.got)
		}
		if n := part.got.StatementsPerOperation; n <= 0 || n > part.mostStatements {
			t.Errorf("%s: %v statements per operation", part.name, n)
		}
		for _, call := range part.calls {
			if l, ok := part.got.Milliseconds[call]; !ok || l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max {
				t.Errorf("%s: %s took %+v", part.name, call, l)
			}
		}
	}
	if r.ParkedWorkers.Workers != 300 || r.ParkedWorkers.Statements != 0 {
		t.Errorf("parked workers: %+v", r.ParkedWorkers)
	}
	if r.PendingToClaimedMilliseconds.P50 <= 0 || r.EmptyStartToFirst200Milliseconds <= 0 {
		t.Errorf("%s", stdout)
	}
}
