// Package schemas holds the JSON schemas of task payloads that workers
// publish, as YAML: <worker implementation>/<variant>.yml.
package schemas

import "embed"

// FS holds the schemas.
//
//go:embed generic-worker/*.yml
var FS embed.FS
