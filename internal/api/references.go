package api

import (
	"encoding/json"
	"net/http"
	"sort"
	"strings"

	"taskcluster/internal/scopes"
)

// apiReference is the published description of a service's methods.
type apiReference struct {
	Schema      string           `json:"$schema"`
	APIVersion  string           `json:"apiVersion"`
	ServiceName string           `json:"serviceName"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Entries     []referenceEntry `json:"entries"`
}

type referenceEntry struct {
	Type        string           `json:"type"`
	Name        string           `json:"name"`
	Title       string           `json:"title"`
	Description string           `json:"description"`
	Category    string           `json:"category"`
	Stability   Stability        `json:"stability"`
	Method      string           `json:"method"`
	Route       string           `json:"route"`
	Args        []string         `json:"args"`
	Query       []string         `json:"query"`
	Input       string           `json:"input,omitempty"`
	Output      string           `json:"output,omitempty"`
	Scopes      *scopes.Template `json:"scopes,omitempty"`
}

type exchangesReference struct {
	Schema         string          `json:"$schema"`
	APIVersion     string          `json:"apiVersion"`
	ServiceName    string          `json:"serviceName"`
	Title          string          `json:"title"`
	Description    string          `json:"description"`
	ExchangePrefix string          `json:"exchangePrefix"`
	Entries        []exchangeEntry `json:"entries"`
}

type exchangeEntry struct {
	Type        string            `json:"type"`
	Exchange    string            `json:"exchange"`
	Name        string            `json:"name"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	RoutingKey  []routingKeyEntry `json:"routingKey"`
	Schema      string            `json:"schema"`
}

type routingKeyEntry struct {
	Name          string `json:"name"`
	Summary       string `json:"summary"`
	Constant      string `json:"constant,omitempty"`
	MultipleWords bool   `json:"multipleWords"`
	Required      bool   `json:"required"`
}

func (svc *service) apiReference(rootURL string) any {
	ref := apiReference{
		Schema:     rootURL + "/schemas/common/api-reference-v0.json#",
		APIVersion: svc.Version, ServiceName: svc.Name, Title: svc.Title, Description: svc.Description,
		Entries: []referenceEntry{},
	}
	for _, m := range svc.methods {
		e := referenceEntry{
			Type: "function", Name: m.Name, Title: m.Title, Description: m.Description, Category: m.Category,
			Stability: m.Stability, Method: strings.ToLower(m.Method.Method), Route: published(m.Route),
			Args: append([]string{}, m.route.names...), Query: []string{}, Input: m.Input, Output: m.Output,
		}
		for _, q := range m.Query {
			e.Query = append(e.Query, q.Name)
		}
		if !m.Scopes.IsPublic() {
			e.Scopes = &m.Scopes
		}
		ref.Entries = append(ref.Entries, e)
	}
	return ref
}

func (svc *service) exchangesReference(rootURL string) any {
	ref := exchangesReference{
		Schema:     rootURL + "/schemas/common/exchanges-reference-v0.json#",
		APIVersion: svc.Version, ServiceName: svc.Name, Title: svc.Title + " events",
		Description:    "What the " + svc.Name + " service announces.",
		ExchangePrefix: "exchange/taskcluster-" + svc.Name + "/" + svc.Version + "/",
		Entries:        []exchangeEntry{},
	}
	for _, x := range svc.Exchanges {
		e := exchangeEntry{Type: "topic-exchange", Exchange: x.Name, Name: x.Method, Title: x.Title, Description: x.Description, Schema: x.Schema, RoutingKey: []routingKeyEntry{}}
		for _, k := range x.Key {
			e.RoutingKey = append(e.RoutingKey, routingKeyEntry{Name: k.Name, Summary: k.Summary, Constant: k.Constant, MultipleWords: k.MultipleWords, Required: k.Required})
		}
		ref.Entries = append(ref.Entries, e)
	}
	return ref
}

type manifest struct {
	Schema     string   `json:"$schema"`
	References []string `json:"references"`
}

// documents lists the paths of all references and how each is made.
func (s *Server) documents() map[string]func(rootURL string) any {
	docs := map[string]func(string) any{}
	var paths []string
	for _, svc := range s.services {
		base := "/references/" + svc.Name + "/" + svc.Version
		docs[base+"/api.json"] = svc.apiReference
		paths = append(paths, base+"/api.json")
		if len(svc.Exchanges) > 0 {
			docs[base+"/exchanges.json"] = svc.exchangesReference
			paths = append(paths, base+"/exchanges.json")
		}
	}
	sort.Strings(paths)
	docs["/references/manifest.json"] = func(rootURL string) any {
		m := manifest{Schema: rootURL + "/schemas/common/manifest-v3.json#", References: []string{}}
		for _, p := range paths {
			m.References = append(m.References, rootURL+p)
		}
		return m
	}
	return docs
}

// Document renders a reference or schema by its path ("/references/…",
// "/schemas/…"). rootURL may be empty, which gives the abstract form.
func (s *Server) Document(path, rootURL string) ([]byte, bool) {
	if name, ok := strings.CutPrefix(path, "/schemas/"); ok {
		service, file, _ := strings.Cut(name, "/")
		doc, ok := s.schemas.Document(service, file)
		if !ok {
			return nil, false
		}
		return s.schemas.Rooted(rootURL, doc), true
	}
	if path == "/references/references.json" {
		return s.allDocuments(), true
	}
	render := s.documents()[path]
	if render == nil {
		return nil, false
	}
	doc, err := marshal(render(rootURL))
	return doc, err == nil
}

// Documents lists the paths that Document knows: references and schemas.
func (s *Server) Documents() []string {
	var paths []string
	for path := range s.documents() {
		paths = append(paths, path)
	}
	for _, name := range s.schemas.Names() {
		paths = append(paths, "/schemas/"+name)
	}
	sort.Strings(paths)
	return paths
}

// allDocuments is everything in one array, in abstract form.
func (s *Server) allDocuments() []byte {
	type file struct {
		Filename string          `json:"filename"`
		Content  json.RawMessage `json:"content"`
	}
	var files []file
	for path, render := range s.documents() {
		if doc, err := marshal(render("")); err == nil {
			files = append(files, file{strings.TrimPrefix(path, "/"), doc})
		}
	}
	for _, name := range s.schemas.Names() {
		service, f, _ := strings.Cut(name, "/")
		if doc, ok := s.schemas.Document(service, f); ok {
			files = append(files, file{"schemas/" + name, doc})
		}
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Filename < files[j].Filename })
	out, _ := marshal(files)
	return out
}

func (s *Server) serveReference(w http.ResponseWriter, r *http.Request) {
	w.Header()["Access-Control-Allow-Origin"] = allowOrigin
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		notFound(w)
		return
	}
	doc, ok := s.Document(r.URL.Path, s.rootURL)
	if !ok {
		notFound(w)
		return
	}
	writeJSON(w, r, http.StatusOK, doc)
}
