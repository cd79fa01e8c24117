package app

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"taskcluster/internal/events"
)

// otlp is a collector: it keeps the spans that it is sent.
type otlp struct {
	*httptest.Server
	mu    sync.Mutex
	spans map[string][]*spans.Span // by name
	text  strings.Builder          // of all that came
}

func newOTLP(t *testing.T) *otlp {
	t.Helper()
	c := &otlp{spans: map[string][]*spans.Span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var sent collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
			t.Errorf("%s %s: no spans: %v", r.Method, r.URL, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.text.WriteString(sent.String())
		for _, resource := range sent.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, s := range scope.Spans {
					c.spans[s.Name] = append(c.spans[s.Name], s)
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// traceparent adds a header to requests.
type traceparent string

func (h traceparent) RoundTrip(r *http.Request) (*http.Response, error) {
	if h != "" {
		r.Header.Set("traceparent", string(h))
	}
	return http.DefaultTransport.RoundTrip(r)
}

func attribute(s *spans.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return strings.Trim(strings.NewReplacer("string_value:", "", "int_value:", "").Replace(a.Value.String()), `"`)
		}
	}
	return ""
}

// TestTraces follows one createTask from its caller's traceparent through the
// store to a consumer of the event.
func TestTraces(t *testing.T) {
	c := newOTLP(t)
	a, err := open(t, settings(t, t.TempDir(), map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "TASKCLUSTER_TRACE_SAMPLE": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := make(chan events.Message, 10)
	a.loops.Go("consumer", func(ctx context.Context) error {
		return a.events.Consume(ctx, "test", []events.Binding{{Exchange: "exchange/taskcluster-queue/v1/task-defined", Pattern: "#"}},
			func(ctx context.Context, m events.Message) error { heard <- m; return nil })
	})
	for lags, err := a.events.Consumers(t.Context()); len(lags) == 0; lags, err = a.events.Consumers(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, header := range []traceparent{"", "00-1af7651916cd43dd8448eb211c80319d-b7ad6b7169203332-00", "00-" + trace + "-" + parent + "-01"} {
		cfg := rootConfig(t, a)
		cfg.Transport = header
		createTask(t, cfg)
		<-heard
	}
	token := string(a.token)
	stop(t, a) // sends what is left

	c.mu.Lock()
	defer c.mu.Unlock()
	one := func(name string) *spans.Span {
		t.Helper()
		if len(c.spans[name]) != 1 {
			t.Fatalf("%d spans %s, want 1 of the one request whose caller traces; there are %v", len(c.spans[name]), name, names(c.spans))
		}
		s := c.spans[name][0]
		if got := hexID(s.TraceId); got != trace {
			t.Errorf("%s is of the trace %s", name, got)
		}
		if s.EndTimeUnixNano <= s.StartTimeUnixNano {
			t.Errorf("%s ended before it began", name)
		}
		return s
	}
	call, write, transaction, consumed := one("queue.createTask"), one("store.Write"), one("store.Transaction"), one("events.Consume test")
	for _, pair := range []struct {
		child  *spans.Span
		parent string
	}{{call, parent}, {write, hexID(call.SpanId)}, {transaction, hexID(write.SpanId)}, {consumed, hexID(transaction.SpanId)}} {
		if got := hexID(pair.child.ParentSpanId); got != pair.parent {
			t.Errorf("%s is below %s, want %s", pair.child.Name, got, pair.parent)
		}
	}
	if len(write.Events) != 1 || write.Events[0].Name != "begun" {
		t.Errorf("%v", write.Events)
	}
	for key, want := range map[string]string{"http.request.method": "PUT", "http.route": "/api/queue/v1/task/:taskId", "http.response.status_code": "200"} {
		if got := attribute(call, key); got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if p := attribute(transaction, "taskcluster.event.position"); p == "" || p != attribute(consumed, "taskcluster.event.position") {
		t.Errorf("the positions differ: %q and %q", p, attribute(consumed, "taskcluster.event.position"))
	}
	if attribute(transaction, "store.operations") == "" || attribute(consumed, "messaging.destination.name") != "exchange/taskcluster-queue/v1/task-defined" {
		t.Errorf("%v\n%v", transaction, consumed)
	}
	if text := c.text.String(); strings.Contains(text, token) || strings.Contains(text, "Hawk ") {
		t.Error("credentials are in the spans")
	}
}

func hexID(id []byte) string { return hex.EncodeToString(id) }

func names(m map[string][]*spans.Span) (list []string) {
	for name := range m {
		list = append(list, name)
	}
	return list
}

func TestTracingSettings(t *testing.T) {
	for env, want := range map[[2]string]string{
		{"TASKCLUSTER_OTLP_ENDPOINT", "localhost:4318"}: "setting otlp-endpoint: the address of the collector is not a URL",
	} {
		if _, err := open(t, settings(t, t.TempDir(), map[string]string{env[0]: env[1]})); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", env, err)
		}
	}
	// A collector that is away is no reason not to serve.
	a := started(t, settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "TASKCLUSTER_TRACE_SAMPLE": "1"}))
	if len(asRoot(t, a)) != 1 {
		t.Error("not served")
	}
}
