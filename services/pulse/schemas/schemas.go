// Package schemas holds the published schemas of the pulse service. The YAML
// files are what to edit; schemas_gen.jsonl is made of them by
// `go generate ./internal/schema`.
package schemas

import (
	"embed"

	"taskcluster/internal/schema"
)

//go:embed schemas_gen.jsonl
var files embed.FS

// Source returns the schemas, for [schema.Load].
func Source() schema.Source { return schema.Source{Service: "pulse", FS: files} }
