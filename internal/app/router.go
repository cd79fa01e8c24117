package app

import (
	"net/http"
	"strings"
)

// router sends a request to the part that serves its path. It is not a
// http.ServeMux, because that would tidy up paths, and the API and signed URLs
// are about paths as they were sent. Who keeps a path from the world, such as
// /metrics, keeps it: no escaped spelling of it leads there.
type router struct {
	api, metrics, blobs, health, site http.Handler
	liveLogs                          http.Handler // nil without a local worker
}

func (r *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	path := req.URL.EscapedPath()
	under := func(prefix string) bool { return strings.HasPrefix(path, prefix) }
	switch {
	case under("/api/"), under("/references/"), under("/schemas/"), under("/__"), path == "/robots.txt":
		r.api.ServeHTTP(w, req)
	case under("/blob/"):
		r.blobs.ServeHTTP(w, req)
	case path == "/healthz", path == "/readyz":
		r.health.ServeHTTP(w, req)
	case path == "/metrics":
		r.metrics.ServeHTTP(w, req)
	case r.liveLogs != nil && under(liveLogPath):
		r.liveLogs.ServeHTTP(w, req)
	default:
		r.site.ServeHTTP(w, req)
	}
}
