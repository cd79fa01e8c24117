package obs

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// TracingOptions say where spans go and how many there are.
type TracingOptions struct {
	// Endpoint is the URL of an OpenTelemetry collector that takes OTLP over HTTP,
	// without /v1/traces, like http://localhost:4318.
	Endpoint string
	// Sample is the share of requests that are traced, from 0 to 1, of those whose
	// sender does not say: a header traceparent decides.
	Sample  float64
	Version string // of this program
	Node    string // names this process among others
	Log     *slog.Logger
}

// Tracing collects spans and sends them to a collector, in the background. When
// the collector is slow or away spans are dropped; nothing else waits for it. A
// nil *Tracing traces nothing.
type Tracing struct{ provider *sdk.TracerProvider }

// NewTracing begins to send spans; it does not wait for the collector. What
// OpenTelemetry's own variables say beyond the endpoint (OTEL_EXPORTER_OTLP_HEADERS,
// …_CERTIFICATE, …_TIMEOUT) holds.
func NewTracing(ctx context.Context, o TracingOptions) (*Tracing, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("the address of the collector is not a URL like http://localhost:4318")
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(o.Endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("spans cannot be exported: %w", err)
	}
	return &Tracing{sdk.NewTracerProvider(
		sdk.WithBatcher(&reporting{SpanExporter: exporter, log: o.Log}),
		sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(o.Sample))),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "taskcluster"),
			attribute.String("service.version", o.Version),
			attribute.String("service.instance.id", o.Node),
		)),
	)}, nil
}

// Tracer makes spans; it is nil when nothing is traced.
func (t *Tracing) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer("taskcluster")
}

// Stop sends what is left, as long as ctx lasts.
func (t *Tracing) Stop(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// reporting logs what the exporter cannot send, once a minute at most, where
// OpenTelemetry would print it.
type reporting struct {
	sdk.SpanExporter
	log  *slog.Logger
	told atomic.Int64 // Unix time in seconds
}

func (r *reporting) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		if now, told := time.Now().Unix(), r.told.Load(); now-told >= 60 && r.told.CompareAndSwap(told, now) {
			r.log.Warn("spans could not be sent to the collector", "spans", len(spans), "error", err.Error())
		}
	}
	return nil
}
