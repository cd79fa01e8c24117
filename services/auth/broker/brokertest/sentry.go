package brokertest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SentryOrganization is the organization of the double Sentry.
const SentryOrganization = "double-organization"

const sentryTeam = "double-team"

// Sentry is the part of Sentry's API that is about projects and their client
// keys.
type Sentry struct {
	double
	token string
	page  int

	projects map[string][]SentryKey // by slug, under mu
	last     int                    // under mu
}

// SentryKey is a client key.
type SentryKey struct {
	ID, Label string
	Active    bool
}

// NewSentry starts a double whose lists have pages of the given length.
func NewSentry(now func() time.Time, page int, projects ...string) *Sentry {
	s := &Sentry{token: random("sntrys_"), page: page, projects: map[string][]SentryKey{}}
	for _, p := range projects {
		s.projects[p] = nil
	}
	s.start(now, s.serve)
	return s
}

// Setting is the value of sentry. With team, projects that are missing are made.
func (s *Sentry) Setting(team bool) string {
	v := map[string]any{"url": s.URL(), "organization": SentryOrganization, "authToken": s.token}
	if team {
		v["initialTeam"] = sentryTeam
	}
	return setting(v)
}

// Token is the bearer token of the deployment.
func (s *Sentry) Token() string { return s.token }

// Add adds a key to a project, as a person would.
func (s *Sentry) Add(project, label string, active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.add(project, label, active)
}

func (s *Sentry) add(project, label string, active bool) SentryKey {
	s.last++
	k := SentryKey{ID: strconv.Itoa(s.last), Label: label, Active: active}
	s.projects[project] = append(s.projects[project], k)
	return k
}

// Keys are the keys of a project.
func (s *Sentry) Keys(project string) []SentryKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.projects[project])
}

func (s *Sentry) serve(w http.ResponseWriter, r *http.Request) {
	text := body(r)
	if r.Header.Get("Authorization") != "Bearer "+s.token {
		s.refuse(w, http.StatusUnauthorized, "Invalid token")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var in struct{ Name, Slug string }
	if len(text) > 0 && json.Unmarshal(text, &in) != nil {
		s.answer(w, http.StatusBadRequest, "JSON parse error")
		return
	}
	part := strings.Split(strings.Trim(strings.TrimPrefix(r.URL.Path, "/api/0"), "/"), "/")
	place := fmt.Sprintf("%s %s %d", r.Method, part[0], len(part))
	if len(part) < 3 || part[1] != SentryOrganization || !strings.HasSuffix(r.URL.Path, "/") {
		s.answer(w, http.StatusNotFound, "The requested resource does not exist")
		return
	}
	_, there := s.projects[part[2]]
	switch {
	case place == "GET organizations 3":
		var all []map[string]string
		for _, slug := range slices.Sorted(maps.Keys(s.projects)) {
			all = append(all, map[string]string{"slug": slug})
		}
		writePage(s, w, r, all)
	case place == "POST teams 4" && part[2] == sentryTeam && part[3] == "projects":
		if _, there := s.projects[in.Slug]; there {
			s.answer(w, http.StatusConflict, "A project with this slug already exists.")
			return
		}
		s.projects[in.Slug] = nil
		writeJSON(w, http.StatusCreated, map[string]string{"slug": in.Slug})
	case part[0] == "projects" && !there:
		s.answer(w, http.StatusNotFound, "The requested resource does not exist")
	case place == "GET projects 4":
		var all []map[string]any
		for _, k := range s.projects[part[2]] {
			all = append(all, s.describe(part[2], k))
		}
		writePage(s, w, r, all)
	case place == "POST projects 4" && in.Name != "":
		writeJSON(w, http.StatusCreated, s.describe(part[2], s.add(part[2], in.Name, true)))
	case place == "DELETE projects 5":
		left := slices.DeleteFunc(slices.Clone(s.projects[part[2]]), func(k SentryKey) bool { return k.ID == part[4] })
		if len(left) == len(s.projects[part[2]]) {
			s.answer(w, http.StatusNotFound, "The requested resource does not exist")
			return
		}
		s.projects[part[2]] = left
		w.WriteHeader(http.StatusNoContent)
	default:
		s.answer(w, http.StatusMethodNotAllowed, "Method not allowed")
	}
}

func (s *Sentry) describe(project string, k SentryKey) map[string]any {
	return map[string]any{
		"id": k.ID, "label": k.Label, "isActive": k.Active,
		"dsn": map[string]string{
			"secret": "https://public-" + k.ID + ":secret-" + k.ID + "@sentry.example.com/" + project,
			"public": "https://public-" + k.ID + "@sentry.example.com/" + project,
		},
	}
}

// writePage writes the page of a list that the cursor says, and where the next
// one is, as Sentry does: in the header Link, which is there for the last page
// too.
func writePage[T any](s *Sentry, w http.ResponseWriter, r *http.Request, all []T) {
	_, at, _ := strings.Cut(cmp.Or(r.URL.Query().Get("cursor"), "0:0:0"), ":")
	at, _, _ = strings.Cut(at, ":")
	from, _ := strconv.Atoi(at)
	from = min(from, len(all))
	to := min(from+s.page, len(all))
	w.Header().Set("Link", fmt.Sprintf(`<%s%s?&cursor=0:0:1>; rel="previous"; results="%t"; cursor="0:0:1", <%s%s?&cursor=0:%d:0>; rel="next"; results="%t"; cursor="0:%d:0"`,
		s.URL(), r.URL.Path, from > 0, s.URL(), r.URL.Path, to, to < len(all), to))
	writeJSON(w, http.StatusOK, append([]T{}, all[from:to]...))
}

// refuse notes a request that must not happen; answer is for what may.
func (s *Sentry) refuse(w http.ResponseWriter, status int, detail string) {
	s.note("%d: %s", status, detail)
	s.answer(w, status, detail)
}

func (s *Sentry) answer(w http.ResponseWriter, status int, detail string) {
	writeJSON(w, status, map[string]string{"detail": detail})
}
