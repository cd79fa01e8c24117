package api

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// oracle is the same route as a regular expression, the way the published
// service's router makes it.
func oracle(pattern string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString("^")
	for i, s := range strings.Split(strings.Trim(pattern, "/"), "/") {
		if i > 0 {
			b.WriteString("/")
		}
		switch {
		case strings.HasPrefix(s, ":"):
			b.WriteString("([^/]+)")
		case strings.HasPrefix(s, "{*"):
			b.WriteString("(.*)")
		default:
			b.WriteString(regexp.QuoteMeta(s))
		}
	}
	if strings.HasSuffix(pattern, "}") {
		b.WriteString("$")
	} else {
		b.WriteString("/?$")
	}
	return regexp.MustCompile("(?s)" + b.String())
}

// FuzzRoute compares the router with the regular expressions.
func FuzzRoute(f *testing.F) {
	patterns := []string{
		"/task/:taskId", "/task/:taskId/runs/:runId/artifacts/{*name}", "/task/:taskId/artifacts", "/pending/{*taskQueueId}",
		"/task-queues/{*taskQueueId}/counts", "/clients/", "/provisioners/:provisionerId/worker-types/:workerType",
	}
	for _, s := range []string{"task/a", "task/a/", "task/a/runs/0/artifacts/x/y", "task/a/runs/0/artifacts/", "pending/a%2Fb", "task-queues/a/b/counts/", "task-queues//counts", "clients", "task/%zz", "task//artifacts"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		for _, pattern := range patterns {
			r := compileRoute(pattern)
			values, ok, err := r.match(splitPath(path), nil)
			want := oracle(pattern).FindStringSubmatch(path)
			if ok != (want != nil) {
				t.Fatalf("%s against %q: %v, want %v", pattern, path, ok, want != nil)
			}
			if !ok || err != nil {
				continue
			}
			if len(values) != len(want)-1 {
				t.Fatalf("%s against %q: %q", pattern, path, values)
			}
			for i, v := range values {
				if decoded, err := url.PathUnescape(want[i+1]); err != nil || decoded != v {
					t.Fatalf("%s against %q: %q, want %q", pattern, path, v, decoded)
				}
			}
		}
	})
}
