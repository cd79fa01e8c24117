// Package schema holds the published JSON schemas: it reads their sources,
// publishes them, checks payloads against them and fills in defaults.
//
// A service keeps its schemas as YAML in schemas/v1/*.yml with constants.yml
// beside them. `go generate ./internal/schema` compiles them into one bundle
// per service (schemas_gen.jsonl) and the Go types of the payloads
// (types_gen.go), so that nothing is parsed at start: a document is parsed
// when it is first used.
//
// Validation is that of Ajv 8 with draft-06 schemas, as clients know it:
// all problems are reported, in Ajv's words, and defaults are written into the
// payload. The checking is done by github.com/santhosh-tekuri/jsonschema;
// what is valid never gets there, because a single pass over the bytes
// accepts it (see [Schema.Accept]).
package schema

//go:generate go run ./gen

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
)

// BundleFile is the name of a service's compiled schemas within Source.FS.
const BundleFile = "schemas_gen.jsonl"

//go:embed common/schemas_gen.jsonl
var common embed.FS

// Source is where the schemas of one service are: FS holds either
// [BundleFile] or, for tests and tools, v1/*.yml with constants.yml. It is nil
// when the service has none.
type Source struct {
	Service string
	FS      fs.FS
}

// Set is a collection of schemas. It is safe for concurrent use.
type Set struct {
	docs map[string][]byte // "queue/v1/task.json" -> published JSON

	mu       sync.Mutex
	parsed   map[string]*node
	rules    map[*node]*rule
	compiled map[string]*Schema
}

// Load reads the given sources, and the schemas common to all services.
func Load(sources ...Source) (*Set, error) {
	s := &Set{
		docs:     map[string][]byte{},
		parsed:   map[string]*node{},
		rules:    map[*node]*rule{},
		compiled: map[string]*Schema{},
	}
	below, err := fs.Sub(common, "common")
	if err != nil {
		return nil, err
	}
	for _, src := range append([]Source{{Service: "common", FS: below}}, sources...) {
		if src.FS == nil {
			continue
		}
		bundle, err := fs.ReadFile(src.FS, BundleFile)
		if errors.Is(err, fs.ErrNotExist) {
			bundle, err = Bundle(src)
		}
		if err != nil {
			return nil, fmt.Errorf("schema: service %s: %w", src.Service, err)
		}
		for line := range bytes.Lines(bundle) {
			doc := bytes.TrimSuffix(line, []byte("\n"))
			rest, ok := bytes.CutPrefix(doc, []byte(`{"$id":"/schemas/`+src.Service+`/`))
			end := bytes.IndexByte(rest, '#')
			if !ok || end < 0 {
				return nil, fmt.Errorf("schema: service %s: %s is damaged", src.Service, BundleFile)
			}
			name := src.Service + "/" + string(rest[:end])
			if s.docs[name] != nil {
				return nil, fmt.Errorf("schema: %s is defined twice", name)
			}
			s.docs[name] = doc
		}
	}
	return s, nil
}

// Names lists the documents in order: "auth/v1/scopeset.json",
// "common/manifest-v3.json", ...
func (s *Set) Names() []string {
	names := make([]string, 0, len(s.docs))
	for name := range s.docs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Document returns the published JSON of a schema, with $id and $schema
// relative to the root URL. The name is "v1/task.json", or "manifest-v3.json"
// when the service is "common". The caller must not change the bytes.
func (s *Set) Document(service, name string) ([]byte, bool) {
	doc, ok := s.docs[service+"/"+name]
	return doc, ok
}

// Rooted returns a schema or reference with the $id and $schema of its top
// level made absolute under the root URL. Nothing else changes.
func (s *Set) Rooted(rootURL string, doc []byte) []byte {
	n, _, err := parse(doc)
	if err != nil || n.kind != object {
		return doc
	}
	rootURL = strings.TrimSuffix(rootURL, "/")
	var out []byte
	last := 0
	for _, m := range n.members {
		if (m.name != "$id" && m.name != "$schema") || m.value.kind != text || !strings.HasPrefix(m.value.str, "/") {
			continue
		}
		inside := m.value.start + 1
		out = append(out, doc[last:inside]...)
		out = append(out, rootURL...)
		last = inside
	}
	return append(out, doc[last:]...)
}

// Schema returns the compiled form of a document, for example
// Schema("queue", "v1/create-task-request.json#").
func (s *Set) Schema(service, ref string) (*Schema, error) {
	name := service + "/" + strings.TrimSuffix(ref, "#")
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc := s.compiled[name]; sc != nil {
		return sc, nil
	}
	root, err := s.document(name)
	if err != nil {
		return nil, err
	}
	c := ruleCompiler{set: s}
	r, err := c.rule(root, name)
	if err != nil {
		return nil, fmt.Errorf("schema: %s: %w", name, err)
	}
	c.finish()
	sc := &Schema{id: "/schemas/" + name + "#", rule: r}
	sc.library = sync.OnceValues(func() (validator, error) { return s.library(name) })
	s.compiled[name] = sc
	return sc, nil
}

// document parses a document once. The caller holds the lock.
func (s *Set) document(name string) (*node, error) {
	if n := s.parsed[name]; n != nil {
		return n, nil
	}
	doc, ok := s.docs[name]
	if !ok {
		return nil, fmt.Errorf("schema: there is no schema %s", name)
	}
	n, _, err := parse(doc)
	if err != nil {
		return nil, fmt.Errorf("schema: %s: %w", name, err)
	}
	s.parsed[name] = n
	return n, nil
}

// resolve finds the target of a $ref in the document called name. The caller
// holds the lock.
func (s *Set) resolve(name, ref string) (*node, string, error) {
	file, fragment, _ := strings.Cut(ref, "#")
	if file != "" {
		name = path.Join(path.Dir(name), file)
	}
	n, err := s.document(name)
	if err != nil {
		return nil, "", err
	}
	for _, word := range strings.Split(fragment, "/")[1:] {
		if n = n.member(word); n == nil {
			return nil, "", fmt.Errorf("%s leads nowhere", ref)
		}
	}
	return n, name, nil
}
