// Command gen compiles the YAML schemas of all services: to one bundle each,
// and to the Go types of what they describe. Run it with
// `go generate ./internal/schema` after a change to a schema.
//
// With -check it writes nothing, and fails if a generated file is not what it
// would write.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"taskcluster/internal/schema"
)

func main() {
	check := flag.Bool("check", false, "only see whether the generated files are up to date")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	files, err := generate(root)
	if err != nil {
		return err
	}
	for name, want := range files {
		path := filepath.Join(root, name)
		have, err := os.ReadFile(path)
		if err == nil && bytes.Equal(have, want) {
			continue
		}
		if check {
			return fmt.Errorf("%s is stale; run: go generate ./internal/schema", name)
		}
		if err := os.WriteFile(path, want, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// findRoot walks up to the module's root.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	return "", fmt.Errorf("no go.mod above the working directory: %w", fs.ErrNotExist)
}

// generate returns the files to write, by path below root.
func generate(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	dirs, err := filepath.Glob(filepath.Join(root, "services", "*", "schemas"))
	if err != nil {
		return nil, err
	}
	bundle := func(service, dir string) ([]byte, error) {
		out, err := schema.Bundle(schema.Source{Service: service, FS: os.DirFS(filepath.Join(root, dir))})
		files[filepath.Join(dir, schema.BundleFile)] = out
		return out, err
	}
	if _, err := bundle("common", filepath.Join("internal", "schema", "common")); err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		folder := filepath.Base(filepath.Dir(dir))
		service := serviceName(folder)
		text, err := bundle(service, filepath.Join("services", folder, "schemas"))
		if err != nil {
			return nil, err
		}
		types, err := goTypes(folder, service, text)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", service, err)
		}
		files[filepath.Join("services", folder, "types_gen.go")] = types
	}
	return files, nil
}

// serviceName returns the published name of the service in services/folder.
func serviceName(folder string) string {
	switch folder {
	case "purgecache":
		return "purge-cache"
	case "workermanager":
		return "worker-manager"
	}
	return folder
}
