package queue

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"taskcluster/internal/api"
	"taskcluster/internal/testenv"
)

// shared reads a file of the reference data beside the repository.
func shared(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(testenv.Shared(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// routeOf is a route as references show it.
func routeOf(m api.Method) string {
	return strings.NewReplacer("{*", "<", "}", ">").Replace(regexpParam(m.Route))
}

func regexpParam(route string) string {
	parts := strings.Split(route, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") {
			parts[i] = "<" + p[1:] + ">"
		}
	}
	return strings.Join(parts, "/")
}

// added are our own methods, which no published reference has.
var added = []string{"createTasks", "whyPending"}

// The table against the published reference: every method, in its order.
func TestMatchesPublishedReference(t *testing.T) {
	var want struct {
		Entries []struct {
			Name, Method, Route, Category, Stability, Input, Output string
			Query                                                   []string
			Scopes                                                  any
		}
	}
	if err := json.Unmarshal(shared(t, "reference/references/queue/v1/api.json"), &want); err != nil {
		t.Fatal(err)
	}
	have := map[string]api.Method{}
	for _, m := range deploy(t).queue.API().Methods {
		have[m.Name] = m
	}
	for _, w := range want.Entries {
		if w.Name == "ping" || w.Name == "lbheartbeat" || w.Name == "version" {
			continue // the framework's
		}
		m, ok := have[w.Name]
		if !ok {
			t.Errorf("no %s", w.Name)
			continue
		}
		delete(have, w.Name)
		var query []string
		for _, q := range m.Query {
			query = append(query, q.Name)
		}
		var scopes any
		text, err := json.Marshal(m.Scopes)
		if err == nil {
			err = json.Unmarshal(text, &scopes)
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.ToUpper(w.Method) != m.Method, w.Route != routeOf(m), w.Category != m.Category,
			w.Stability != string(m.Stability), w.Input != m.Input, w.Output != m.Output,
			strings.Join(w.Query, " ") != strings.Join(query, " "), !reflect.DeepEqual(w.Scopes, scopes):
			t.Errorf("%s differs:\n%+v\n%+v %s %s", w.Name, w, m, routeOf(m), text)
		}
	}
	for name, m := range have {
		if !slices.Contains(added, name) || m.Stability != api.Experimental {
			t.Errorf("%s is not published", name)
		}
	}
}

func TestExchangesMatchPublishedReference(t *testing.T) {
	var want struct {
		ExchangePrefix string
		Entries        []struct {
			Exchange, Name, Schema string
			RoutingKey             []struct {
				Name, Constant          string
				MultipleWords, Required bool
			}
		}
	}
	if err := json.Unmarshal(shared(t, "reference/references/queue/v1/exchanges.json"), &want); err != nil {
		t.Fatal(err)
	}
	have := exchanges()
	if want.ExchangePrefix != exchangePrefix || len(have) != len(want.Entries) {
		t.Fatalf("%s, %d exchanges", want.ExchangePrefix, len(want.Entries))
	}
	for i, w := range want.Entries {
		x := have[i]
		if err := x.Check(); err != nil {
			t.Error(err)
		}
		if x.Name != w.Exchange || x.Method != w.Name || x.Schema != w.Schema || len(x.Key) != len(w.RoutingKey) {
			t.Errorf("%+v\n%+v", x, w)
			continue
		}
		for j, k := range w.RoutingKey {
			h := x.Key[j]
			if h.Name != k.Name || h.Constant != k.Constant || h.MultipleWords != k.MultipleWords || h.Required != k.Required {
				t.Errorf("%s: %+v\n%+v", x.Name, h, k)
			}
		}
	}
}

// What the table holds without the reference at hand.
func TestMethodTable(t *testing.T) {
	d := deploy(t)
	seen := map[string]bool{}
	for _, m := range d.queue.API().Methods {
		if seen[m.Name] {
			t.Errorf("%s stands there twice", m.Name)
		}
		seen[m.Name] = true
		if m.Scopes.IsPublic() && m.Name != "heartbeat" {
			t.Errorf("%s is open to everybody", m.Name)
		}
		for _, part := range strings.Split(m.Route, "/") {
			name := strings.Trim(part, ":{*}")
			if name != part && m.Params[name] == nil {
				t.Errorf("%s: the parameter %s has no pattern", m.Name, name)
			}
		}
	}
	d.call(nobody, "GET", "/__heartbeat__", nil).want(200, "{}")
}
