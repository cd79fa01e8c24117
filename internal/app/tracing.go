package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"taskcluster/internal/config"
	"taskcluster/internal/obs"
)

// newTracing sends spans to the collector that is set; it is nil if none is.
func newTracing(ctx context.Context, settings config.Settings, log *slog.Logger) (*obs.Tracing, error) {
	if settings.OTLPEndpoint == nil {
		return nil, nil
	}
	host, _ := os.Hostname() // a name for people: without one it is the number alone
	t, err := obs.NewTracing(ctx, obs.TracingOptions{
		Endpoint: *settings.OTLPEndpoint, Sample: *settings.TraceSample,
		Version: Version().Version, Node: fmt.Sprintf("%s/%d", host, os.Getpid()), Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("setting otlp-endpoint: %w", err)
	}
	return t, nil
}
