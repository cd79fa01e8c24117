package transcripts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"taskcluster/test/harness"
)

// method is an entry of a published reference.
type method struct {
	service, name, verb string
	scopes, input       bool
	route               *regexp.Regexp
	literal             int // characters of the route that are no parameter
	answers             []int
	forbidden           bool // an answer says which scopes are missing
}

func (m *method) String() string { return m.service + "." + m.name }

var parameter = regexp.MustCompile(`<[^>]*>`)

// published reads the references that a deployment serves.
func published(t *testing.T, rootURL string) []*method {
	t.Helper()
	get := func(url string, v any) {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(v); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
		}
	}
	var manifest struct{ References []string }
	get(rootURL+"/references/manifest.json", &manifest)
	var out []*method
	for _, url := range manifest.References {
		if !strings.HasSuffix(url, "/api.json") {
			continue
		}
		var ref struct {
			ServiceName, APIVersion string
			Entries                 []struct {
				Name, Method, Route string
				Input               string
				Scopes              json.RawMessage
			}
		}
		get(url, &ref)
		for _, e := range ref.Entries {
			route := "/api/" + ref.ServiceName + "/" + ref.APIVersion + e.Route
			parts := parameter.Split(route, -1)
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			out = append(out, &method{
				service: ref.ServiceName, name: e.Name, verb: strings.ToUpper(e.Method), input: e.Input != "", scopes: e.Scopes != nil,
				route: regexp.MustCompile("^" + strings.Join(parts, "(.*)") + "$"), literal: len(parameter.ReplaceAllString(route, "")),
			})
		}
	}
	if len(out) < 50 {
		t.Fatalf("the deployment publishes %d methods only", len(out))
	}
	return out
}

// called finds the method that a step calls: of the routes that match, the one
// that says most. It is nil for paths of no method.
func called(methods []*method, st *step) *method {
	var best *method
	for _, m := range methods {
		if m.verb == st.method && m.route.MatchString(st.pathOnly()) && (best == nil || m.literal > best.literal) {
			best = m
		}
	}
	return best
}

// elsewhere are methods whose success needs a service outside of the deployment.
// The tests of their own packages have doubles of these; here stands what an
// unconfigured deployment answers. A WebSocket is no transcript either.
var elsewhere = []string{
	"auth.awsS3Credentials", "auth.azureTables", "auth.azureContainers", "auth.sentryDSN", "auth.gcpCredentials", "auth.githubRepoToken",
	"events.socket",
}

// TestEveryMethod holds that the transcripts show each method that the
// deployment publishes: that it succeeds, what it refuses, and when it changes
// something, what a repetition does.
func TestEveryMethod(t *testing.T) {
	server := harness.Start(t, harness.Binary(t), t.TempDir())
	methods := published(t, server.RootURL)
	server.Stop()
	for _, file := range stories(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parse(txtar.Parse(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, st := range s.steps {
			m := called(methods, st)
			if m == nil {
				continue
			}
			m.answers = append(m.answers, st.status())
			m.forbidden = m.forbidden || strings.Contains(st.answer, `"InsufficientScopes"`)
			// Refusals name the method that refused.
			if _, named, ok := strings.Cut(st.answer, `"method": "`); ok && strings.Contains(st.answer, `"requestInfo"`) {
				if named, _, _ = strings.Cut(named, `"`); named != m.name {
					t.Errorf("%s: step %q seems to call %s, but %s answered", file, st.name, m, named)
				}
			}
		}
	}
	for _, m := range methods {
		if len(m.answers) == 0 {
			t.Errorf("no transcript shows %s", m)
			continue
		}
		for _, lack := range m.lacks() {
			t.Errorf("the transcripts of %s show no %s", m, lack)
		}
	}
	for _, name := range elsewhere {
		if !slices.ContainsFunc(methods, func(m *method) bool { return m.String() == name }) {
			t.Errorf("%s is not published", name)
		}
	}
}

// lacks says what the transcripts of a method still have to show.
func (m *method) lacks() (out []string) {
	count := func(ok func(status int) bool) (n int) {
		for _, status := range m.answers {
			if ok(status) {
				n++
			}
		}
		return n
	}
	is := func(want ...int) func(int) bool {
		return func(status int) bool { return slices.Contains(want, status) }
	}
	success := func(status int) bool { return status >= 200 && status < 400 }
	if !slices.Contains(elsewhere, m.String()) {
		if count(success) == 0 {
			out = append(out, "success")
		}
		if m.verb != http.MethodGet && count(func(status int) bool { return success(status) || status == 409 }) < 2 {
			out = append(out, "repetition")
		}
	}
	if m.scopes && !m.forbidden {
		out = append(out, "refusal for want of scopes")
	}
	if m.input && count(is(400)) == 0 {
		out = append(out, "refusal of a body")
	}
	if n := count(func(status int) bool { return status >= 500 || status == 0 }); n > 0 {
		out = append(out, fmt.Sprintf("good answer in %d places, but a failure of the server or nothing", n))
	}
	return out
}
