package api

import (
	"net/http"
	"strings"
)

// secure tells whether the sender used https, as far as we or the proxy know.
func secure(r *http.Request) bool {
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	return r.TLS != nil || strings.TrimSpace(proto) == "https"
}

// ForceSSL sends senders of plain http to https, and tells browsers to stay
// there for 90 days.
func ForceSSL(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=7776000")
		if !secure(r) {
			http.Redirect(w, r, "https://"+r.Host+r.RequestURI, http.StatusFound)
			return
		}
		next.ServeHTTP(w, r)
	})
}
