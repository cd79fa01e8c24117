// Package layout holds the rules of who may import whom.
package layout

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
}

// leaves are pure packages: they import the standard library only.
var leaves = []string{"internal/scopes", "internal/hawk", "internal/slugid", "internal/tcerr", "internal/clock", "internal/lifecycle"}

// ground may not know the services that stand on it.
var ground = []string{"internal/api", "internal/store", "internal/events", "internal/blob", "internal/schema", "internal/obs", "internal/config"}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Imports", "./...")
	cmd.Dir = testenv.Root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]pkg{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	seen := 0
	for _, p := range packages {
		name, ok := strings.CutPrefix(p.ImportPath, "taskcluster/")
		if !ok {
			continue
		}
		seen++
		for _, imp := range p.Imports {
			to, mine := strings.CutPrefix(imp, "taskcluster/")
			broken := func(rule string) { t.Errorf("%s imports %s: %s", name, imp, rule) }
			if under(name, leaves...) && !packages[imp].Standard {
				broken("a leaf imports the standard library only")
			}
			if mine {
				checkRooms(name, to, broken)
			}
		}
	}
	if seen < 20 {
		t.Fatalf("only %d packages of the project were looked at", seen)
	}
}

// checkRooms applies the rules between the project's own packages.
func checkRooms(name, to string, broken func(rule string)) {
	if under(name, ground...) && under(to, "services", "worker", "client", "internal/app", "internal/cli", "internal/site") {
		broken("the ground does not know what stands on it")
	}
	if s, ok := service(name); ok {
		if o, ok := service(to); ok && o != s {
			broken("a service never imports another service")
		}
		if under(to, "internal/app", "internal/cli", "worker", "internal/site") {
			broken("a service knows only the ground and the client")
		}
	}
	if under(name, "worker") && under(to, "services", "internal/store", "internal/events", "internal/api", "internal/app") {
		broken("the worker knows only the published API")
	}
	if under(to, "internal/app") && !under(name, "internal/app", "internal/cli") {
		broken("only the command line starts the program")
	}
	if under(to, "internal/cli") && !under(name, "internal/cli", "cmd", "test/script") {
		broken("only the door opens the command line")
	}
	if under(name, "client") && !under(to, "client", "internal/hawk", "internal/slugid") {
		broken("the client is for everybody and knows no insides")
	}
}

func under(name string, prefixes ...string) bool {
	for _, p := range prefixes {
		if name == p || strings.HasPrefix(name, p+"/") {
			return true
		}
	}
	return false
}

func service(name string) (string, bool) {
	rest, ok := strings.CutPrefix(name, "services/")
	s, _, _ := strings.Cut(rest, "/")
	return s, ok
}
