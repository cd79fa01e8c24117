package obs

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestMetricsShowWhatWasServed(t *testing.T) {
	m := NewMetrics("1.0", "abc")
	m.Served("queue", "createTask", "PUT", 200, 3*time.Millisecond)
	m.Served("queue", "createTask", "PUT", 200, 3*time.Millisecond)
	depth := &Family{Name: "taskcluster_test_depth", Help: "A test."}
	size := &Family{Name: "taskcluster_test_size", Help: "A test.", Labels: []string{"of"}, Counter: true}
	m.Publish([]*Family{depth, size}, func(emit func(*Family, float64, ...string)) {
		emit(depth, 7)
		emit(size, 1, "a")
		emit(size, 2, "b")
	})
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		`http_requests_total{method="PUT",name="createTask",service="queue",status="200"} 2`,
		`http_request_duration_seconds_bucket{method="PUT",name="createTask",service="queue",status="200",le="0.005"} 2`,
		"taskcluster_test_depth 7",
		`taskcluster_test_size{of="b"} 2`,
		"# TYPE taskcluster_test_size counter",
	} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("missing %q", want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.Served("queue", "createTask", "PUT", 200, time.Millisecond) }); n > 1 {
		t.Errorf("counting a call allocates %v times", n)
	}
}

func TestLogger(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not this")
	log.Warn("this", "taskId", "x")
	if got := out.String(); strings.Contains(got, "not this") || !strings.Contains(got, `"taskId":"x"`) {
		t.Error(got)
	}
	if _, err := NewLogger(&out, "xml", "info"); err == nil {
		t.Error("format xml must be refused")
	}
	if _, err := NewLogger(&out, "json", "loud"); err == nil {
		t.Error("level loud must be refused")
	}
}

func TestAuthenticationsAreBounded(t *testing.T) {
	m := NewMetrics("1.0", "abc")
	for i := range 3 * maxClients {
		m.Authenticated("hawk", fmt.Sprintf("person/%d", i), "")
		m.Authenticated("hawk", fmt.Sprintf("task-client/%d/0/on/wg/w", i), "")
		m.Authenticated("bewit", fmt.Sprintf("worker/%d", i), "")
	}
	m.Authenticated("hawk", "", "refused")
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	text := rec.Body.String()
	if n := strings.Count(text, "\nauth_success_total{"); n != maxClients+1 {
		t.Errorf("%d series", n)
	}
	for _, want := range []string{
		`auth_success_total{clientId="person/0",scheme="hawk"} 1`,
		`auth_success_total{clientId="task-client/*",scheme="hawk"} 600`,
		`auth_success_total{clientId="worker/*",scheme="bewit"} 600`,
		`auth_success_total{clientId="(other)",scheme="hawk"} 402`,
		`auth_failure_total{reason="refused",scheme="hawk"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %q", want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.Authenticated("hawk", "person/0", "") }); n > 0 {
		t.Errorf("counting allocates %v times", n)
	}
}
