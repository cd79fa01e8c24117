package api

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"taskcluster/internal/scopes"
)

// compile checks a method's entry and prepares it for serving.
func (s *Server) compile(svc *service, def *Method) (*method, error) {
	m := &method{Method: def, service: svc, route: compileRoute(def.Route)}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("api %s.%s: %s", svc.Name, def.Name, fmt.Sprintf(format, args...))
	}
	switch {
	case def.Name == "" || def.Title == "" || def.Description == "" || def.Stability == "" || def.Category == "":
		return nil, fail("name, title, description, category and stability are needed")
	case def.Handle == nil:
		return nil, fail("no handler")
	case !strings.HasPrefix(def.Route, "/"):
		return nil, fail("route %q must begin with a slash", def.Route)
	}
	for _, name := range m.route.names {
		m.patterns = append(m.patterns, def.Params[name])
	}
	for name := range def.Params {
		if !contains(m.route.names, name) {
			return nil, fail("pattern for %q, which the route does not have", name)
		}
	}
	m.urlAuth = urlScopes(def, m.route.names)
	if def.Input != "" {
		in, err := s.schemas.Schema(svc.Name, def.Input)
		if err != nil {
			return nil, fail("input: %v", err)
		}
		m.input = in
	}
	if def.Output != "" && def.Output != Blob {
		if _, err := s.schemas.Schema(svc.Name, def.Output); err != nil {
			return nil, fail("output: %v", err)
		}
	}
	return m, nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// utilityMethods are what every API has besides its own.
func (s *Server) utilityMethods() []Method {
	public := scopes.Template{}
	return []Method{
		{
			Name: "ping", Method: http.MethodGet, Route: "/ping", Category: "Monitoring", Stability: Stable, Scopes: public,
			Title:       "Ping Server",
			Description: "Answers at once when the service is up.",
			Handle: func(*Call) (any, error) {
				return struct {
					Alive  bool    `json:"alive"`
					Uptime float64 `json:"uptime"`
				}{true, time.Since(s.started).Seconds()}, nil
			},
		},
		{
			Name: "lbheartbeat", Method: http.MethodGet, Route: "/__lbheartbeat__", Category: "Monitoring", Stability: Stable, Scopes: public,
			Title:       "Load Balancer Heartbeat",
			Description: "Answers with success while this process takes requests, so that a load balancer keeps sending them.",
			Handle:      func(*Call) (any, error) { return JSON("{}"), nil },
		},
		{
			Name: "version", Method: http.MethodGet, Route: "/__version__", Category: "Monitoring", Stability: Stable, Scopes: public,
			Title:       "Taskcluster Version",
			Description: "Tells which version of the program serves this API.",
			Handle:      func(*Call) (any, error) { return s.version, nil },
		},
	}
}

// HeartbeatMethod is the entry by which a service declares its heartbeat; check
// reports what is wrong with what the service stands on.
func HeartbeatMethod(check func(*Call) error) Method {
	return Method{
		Name: "heartbeat", Method: http.MethodGet, Route: "/__heartbeat__", Category: "Monitoring", Stability: Stable,
		Title:       "Heartbeat",
		Description: "Answers with success when the service and what it stands on work.",
		Handle: func(c *Call) (any, error) {
			if err := check(c); err != nil {
				return nil, err
			}
			return JSON("{}"), nil
		},
	}
}

// serveUtility serves the process-level paths that load balancers and robots
// ask for.
func (s *Server) serveUtility(w http.ResponseWriter, r *http.Request, path string) {
	switch {
	case strings.HasPrefix(path, "/__version__"):
		body, _ := marshal(s.version)
		writeJSON(w, r, http.StatusOK, body)
	case strings.HasPrefix(path, "/__heartbeat__"), strings.HasPrefix(path, "/__lbheartbeat__"):
		writeJSON(w, r, http.StatusOK, []byte("{}"))
	case strings.HasPrefix(path, "/robots.txt"):
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("User-Agent: *\nDisallow: /\n"))
	default:
		notFound(w)
	}
}
