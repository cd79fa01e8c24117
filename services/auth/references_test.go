package auth

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"taskcluster/internal/api"
	"taskcluster/internal/testenv"
)

// published is what a reference says of a method.
type publishedMethod struct {
	Name, Method, Route, Category, Stability, Input, Output string
	Query                                                   []string
	Scopes                                                  json.RawMessage
}

// TestReference compares the table of methods with the published reference:
// the order, and of each method what clients depend on.
func TestReference(t *testing.T) {
	var reference struct{ Entries []publishedMethod }
	if err := json.Unmarshal(sharedFile(t, "reference/references/auth/v1/api.json"), &reference); err != nil {
		t.Fatal(err)
	}
	byName := map[string]publishedMethod{}
	var order []string
	for _, e := range reference.Entries {
		byName[e.Name] = e
		order = append(order, e.Name)
	}
	last := -1
	all := (&Service{}).methods()
	if want := len(order) - len([]string{"ping", "lbheartbeat", "version"}); len(all) < want {
		t.Errorf("%d methods, the reference has %d", len(all), want)
	}
	for _, m := range all {
		want, ok := byName[m.Name]
		if !ok && m.Name == "explainScopes" && m.Stability == api.Experimental { // our own
			continue
		}
		if !ok {
			t.Errorf("%s is not in the reference", m.Name)
			continue
		}
		at := slices.Index(order, m.Name)
		if at <= last {
			t.Errorf("%s is out of order", m.Name)
		}
		last = at
		got := publishedMethod{
			Name: m.Name, Method: strings.ToLower(m.Method), Route: strings.NewReplacer("/:", "/<").Replace(m.Route),
			Category: m.Category, Stability: string(m.Stability), Input: m.Input, Output: m.Output,
		}
		segments := strings.Split(got.Route, "/")
		for i, s := range segments {
			if strings.HasPrefix(s, "<") {
				segments[i] += ">"
			} else if name, ok := strings.CutPrefix(s, "{*"); ok {
				segments[i] = "<" + strings.TrimSuffix(name, "}") + ">"
			}
		}
		got.Route = strings.Join(segments, "/")
		for _, q := range m.Query {
			got.Query = append(got.Query, q.Name)
		}
		if got.Name != want.Name || got.Method != want.Method || got.Route != want.Route || got.Category != want.Category ||
			got.Stability != want.Stability || got.Input != want.Input || got.Output != want.Output || !slices.Equal(got.Query, want.Query) {
			t.Errorf("\ngot  %+v\nwant %+v", got, want)
		}
		if scopes := scopesText(t, m); scopes != normalJSON(t, want.Scopes) {
			t.Errorf("%s: scopes %s, want %s", m.Name, scopes, want.Scopes)
		}
	}
	var exchangeReference struct {
		Entries []struct{ Exchange, Name, Schema string }
	}
	if err := json.Unmarshal(sharedFile(t, "reference/references/auth/v1/exchanges.json"), &exchangeReference); err != nil {
		t.Fatal(err)
	}
	if len(exchangeReference.Entries) != len(exchanges()) {
		t.Fatal(len(exchanges()))
	}
	for i, x := range exchanges() {
		if want := exchangeReference.Entries[i]; x.Name != want.Exchange || x.Method != want.Name || x.Schema != want.Schema {
			t.Errorf("%+v, want %+v", x, want)
		}
		if err := x.Check(); err != nil {
			t.Error(err)
		}
		if key, err := x.RoutingKey(nil); err != nil || key != routingKey {
			t.Error(key, err)
		}
	}
}

func scopesText(t *testing.T, m api.Method) string {
	if m.Scopes.IsPublic() {
		return ""
	}
	text, err := json.Marshal(m.Scopes)
	if err != nil {
		t.Fatal(err)
	}
	return normalJSON(t, text)
}

// normalJSON has the members of objects in order.
func normalJSON(t *testing.T, text []byte) string {
	if len(text) == 0 {
		return ""
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	normal, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(normal)
}

// sharedFile reads a file of the data that stands beside the repository.
func sharedFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(testenv.Shared(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
