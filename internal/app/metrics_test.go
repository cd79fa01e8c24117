package app

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"taskcluster/internal/events"
	"taskcluster/internal/testenv"
)

// TestMetricsPage holds docs/metrics.md to what there is: each metric, its type
// and its labels.
func TestMetricsPage(t *testing.T) {
	a := started(t, settings(t, t.TempDir(), nil))
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (counter|gauge|histogram)").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = true
	}
	ours := slices.DeleteFunc(a.metrics.Names(), func(name string) bool {
		return strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_")
	})
	if len(ours) < 20 {
		t.Fatalf("only %d metrics were found", len(ours))
	}
	// What a name must end in to tell its unit: seconds, or what is counted.
	unit := regexp.MustCompile(`_(seconds|total|info|tasks|workers|operations|letters|held|head|namespaces|mails)$`)
	for _, name := range ours {
		if !documented[name] {
			t.Errorf("docs/metrics.md does not describe %s", name)
		}
		delete(documented, name)
		if !unit.MatchString(name) {
			t.Errorf("%s does not tell its unit", name)
		}
	}
	for name := range documented {
		t.Errorf("docs/metrics.md describes %s, which is not there", name)
	}
}

// TestPublishedMetrics: those that the published services have are there by the
// same names, with the labels that the specification tells.
func TestPublishedMetrics(t *testing.T) {
	text, err := os.ReadFile(testenv.Shared(t, "spec/platform/api-framework.md"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "Prometheus ") {
			continue
		}
		for _, m := range regexp.MustCompile("`([a-z_]+)(?:\\{([a-zA-Z,]+)\\})?`").FindAllStringSubmatch(line, -1) {
			found++
			row := regexp.MustCompile("(?m)^\\| `" + m[1] + "` \\| [a-z*]+ \\| ([^|]*) \\|").FindStringSubmatch(string(page))
			if row == nil {
				t.Errorf("docs/metrics.md, and so the program, lacks %s", m[1])
				continue
			}
			for label := range strings.SplitSeq(m[2], ",") {
				if !strings.Contains(row[1], label) {
					t.Errorf("%s lacks the label %s", m[1], label)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("the specification tells of only %d metrics", found)
	}
}

// TestMetricsValues: what a task's life leaves in the metrics.
func TestMetricsValues(t *testing.T) {
	a := started(t, settings(t, t.TempDir(), nil))
	q := queueAs(t, a)
	if _, err := a.events.Register(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	claimed(t, q)
	id := claimed(t, q)
	if _, err := q.ReportException(t.Context(), id, "0", exceptionRequest("malformed-payload")); err != nil {
		t.Fatal(err)
	}
	done := claimed(t, q)
	if _, err := q.ReportCompleted(t.Context(), done, "0"); err != nil {
		t.Fatal(err)
	}
	// One consumer comes too late for a log that keeps events for a moment.
	short := events.NewLog(a.store, events.Options{Retention: time.Nanosecond, HardCap: time.Nanosecond})
	for deadline := time.Now().Add(time.Minute); ; { // until the clock has moved on
		if n, err := short.Trim(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatal(n, err)
		} else if n > 0 {
			break
		}
	}
	text := scrape(t, a)
	for _, want := range []string{
		`queue_claimed_tasks{provisionerId="prov",workerType="type"} 1`,
		`queue_pending_tasks{provisionerId="prov",workerType="type"} 0`,
		`queue_workers_total{provisionerId="prov",workerType="type"} 1`,
		`queue_running_workers{provisionerId="prov",workerType="type"} 1`,
		`queue_idle_workers{provisionerId="prov",workerType="type"} 0`,
		`queue_quarantined_workers{provisionerId="prov",workerType="type"} 0`,
		`queue_completed_tasks{provisionerId="prov",workerType="type"} 1`,
		`queue_exception_tasks{provisionerId="prov",reasonResolved="malformed-payload",workerType="type"} 1`,
		`auth_success_total{clientId="static/taskcluster/root",scheme="hawk"} 8`,
		`http_requests_total{method="PUT",name="createTask",service="queue",status="200"} 3`,
		`taskcluster_build_info{commit=`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing: %s", want)
		}
	}
	for _, grown := range []string{"taskcluster_store_commit_seconds_count", "taskcluster_store_commit_operations_sum", "taskcluster_store_reads_total", "taskcluster_events_head", `taskcluster_events_lost_total{consumer="late"}`} {
		if m := regexp.MustCompile(`(?m)^` + grown + ` (\S+)$`).FindStringSubmatch(text); m == nil || m[1] == "0" {
			t.Errorf("%s: %v", grown, m)
		}
	}
	if strings.Contains(text, "taskcluster_store_waiting_operations 0") == false {
		t.Error("nobody should wait in line")
	}
}

// TestMetricsOfBackgroundWork: whatever comes again and again is measured under
// its name, and docs/metrics.md names it.
func TestMetricsOfBackgroundWork(t *testing.T) {
	a := started(t, settings(t, t.TempDir(), nil))
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	turn := regexp.MustCompile(`(?m)^iterate_duration_seconds_count\{name="([^"]+)",status="([^"]+)"\} [1-9]`)
	want := []string{"api/audit", "auth/purge", "events/trim", "object/expire", "purge-cache/expire", "queue/expire", "queue/releases", "queue/timers"}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var got []string
		for _, m := range turn.FindAllStringSubmatch(scrape(t, a), -1) {
			got = append(got, m[1])
			if m[2] != "success" {
				t.Fatalf("%s has failed", m[1])
			}
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Fatalf("docs/metrics.md does not name %s", m[1])
			}
		}
		if missing := slices.DeleteFunc(slices.Clone(want), func(name string) bool { return slices.Contains(got, name) }); len(missing) == 0 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("after a minute there is still no turn of %v", missing)
		}
	}
}
