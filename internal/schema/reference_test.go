package schema_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"taskcluster/internal/schema"
	"taskcluster/internal/testenv"
	auth "taskcluster/services/auth/schemas"
	object "taskcluster/services/object/schemas"
	purgecache "taskcluster/services/purgecache/schemas"
	queue "taskcluster/services/queue/schemas"
)

func load(t testing.TB) *schema.Set {
	t.Helper()
	set, err := schema.Load(queue.Source(), auth.Source(), object.Source(), purgecache.Source())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// additions are schemas of methods that the published reference does not have.
var additions = []string{
	"queue/v1/create-tasks-request.json", "queue/v1/create-tasks-response.json", "queue/v1/why-pending-response.json",
	"auth/v1/explain-scopes-request.json", "auth/v1/explain-scopes-response.json",
}

// Every schema is the published one, prose aside.
func TestPublishedSchemas(t *testing.T) {
	dir := testenv.Shared(t, "reference/schemas")
	set := load(t)
	seen := 0
	for _, service := range []string{"common", "queue", "auth", "object", "purge-cache"} {
		err := filepath.WalkDir(filepath.Join(dir, service), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(filepath.Join(dir, service), file)
			doc, ok := set.Document(service, filepath.ToSlash(name))
			if !ok {
				t.Errorf("%s/%s is missing", service, name)
				return nil
			}
			if diff := cmp.Diff(bare(t, text), bare(t, doc)); diff != "" {
				t.Errorf("%s/%s (-published +ours):\n%s", service, name, diff)
			}
			seen++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen+len(additions) != len(set.Names()) {
		t.Errorf("%d schemas are published and %d are additions, we have %d", seen, len(additions), len(set.Names()))
	}
	for _, name := range additions {
		service, file, _ := strings.Cut(name, "/")
		if _, err := os.Stat(filepath.Join(dir, filepath.FromSlash(name))); err == nil {
			t.Errorf("%s is published, and no addition", name)
		}
		if _, ok := set.Document(service, file); !ok {
			t.Errorf("%s is missing", name)
		}
	}
}

// bare parses a schema without its prose, and with those lists sorted whose
// order means nothing.
func bare(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return strip(v, false)
}

func strip(v any, names bool) any {
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			_, isText := e.(string)
			if !names && isText && (key == "title" || key == "description" || key == "summary") {
				delete(v, key)
				continue
			}
			v[key] = strip(e, !names && (key == "properties" || key == "definitions" || key == "patternProperties"))
			if list, ok := v[key].([]any); ok && !names && (key == "required" || key == "enum" || key == "type") {
				slices.SortFunc(list, func(a, b any) int {
					x, _ := json.Marshal(a)
					y, _ := json.Marshal(b)
					return bytes.Compare(x, y)
				})
			}
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i], false)
		}
	}
	return v
}

// Facts about the schemas that hold without the published ones at hand.
func TestDocuments(t *testing.T) {
	set := load(t)
	count := map[string]int{}
	for _, name := range set.Names() {
		service, file, _ := strings.Cut(name, "/")
		count[service]++
		doc, ok := set.Document(service, file)
		if !ok || !json.Valid(doc) {
			t.Errorf("%s: not JSON", name)
		}
		sc, err := set.Schema(service, file+"#")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := "/schemas/" + name + "#"; sc.ID() != want || !bytes.Contains(doc, []byte(`{"$id":"`+want+`"`)) {
			t.Errorf("%s: $id is %s", name, sc.ID())
		}
		for _, p := range sc.Validate("no schema of ours allows just a string") {
			if strings.HasPrefix(p, "schema:") {
				t.Errorf("%s does not compile: %s", name, p)
			}
		}
	}
	if want := map[string]int{"common": 10, "queue": 60, "auth": 30, "object": 11, "purge-cache": 4}; !cmp.Equal(count, want) {
		t.Errorf("we have %v documents, want %v", count, want)
	}
}
