package api

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// The attributes of a call's span, as OpenTelemetry names them; the last two
// are those of the response's headers X-For-Request-Id and X-For-Trace-Id,
// which log lines carry as well.
const (
	methodAttr    = attribute.Key("http.request.method")
	routeAttr     = attribute.Key("http.route")
	statusAttr    = attribute.Key("http.response.status_code")
	requestIDAttr = attribute.Key("taskcluster.request_id")
	traceIDAttr   = attribute.Key("taskcluster.trace_id")
)

// startSpan begins the span of a call: below that of the caller who is in this
// process, or of the one that the header traceparent names. URL parameters and
// queries are no part of it, because signatures may be among them.
func (s *Server) startSpan(r *http.Request, m *method, h http.Header) (context.Context, trace.Span) {
	ctx := r.Context()
	if !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	return s.tracer.Start(ctx, m.service.Name+"."+m.Name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		methodAttr.String(r.Method),
		routeAttr.String("/api/"+m.service.Name+"/"+m.service.Version+m.Route),
		requestIDAttr.String(h["X-For-Request-Id"][0]),
		traceIDAttr.String(h["X-For-Trace-Id"][0]),
	))
}

func endSpan(span trace.Span, status int) {
	span.SetAttributes(statusAttr.Int(status))
	if status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
