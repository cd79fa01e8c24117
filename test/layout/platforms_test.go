package layout

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// TestPlatforms: the program is well typed for the systems that it is not built
// on here, and so are its tests where they may run, which is Unix. What a system
// lacks is refused when it is asked for; it does not keep the rest from being
// built.
func TestPlatforms(t *testing.T) {
	for _, platform := range []string{"linux/arm64", "darwin/arm64", "windows/amd64", "freebsd/amd64"} {
		t.Run(platform, func(t *testing.T) {
			t.Parallel()
			system, arch, _ := strings.Cut(platform, "/")
			cmd := exec.Command("go", "list", "-deps", "-test="+strconv.FormatBool(system != "windows"), "-json=ImportPath,Name,Dir,GoFiles,ImportMap,Module", "./...")
			cmd.Dir = testenv.Root(t)
			cmd.Env = append(os.Environ(), "GOOS="+system, "GOARCH="+arch, "CGO_ENABLED=0")
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			checked, own := map[string]*types.Package{"unsafe": types.Unsafe}, 0
			for list := json.NewDecoder(strings.NewReader(string(out))); list.More(); {
				var p source
				if err := list.Decode(&p); err != nil {
					t.Fatal(err)
				}
				if checked[p.ImportPath] != nil || strings.HasSuffix(p.ImportPath, ".test") {
					continue
				}
				checked[p.ImportPath] = p.check(types.SizesFor("gc", arch), checked, func(err error) { t.Error(err) })
				if p.own() {
					own++
				}
			}
			if own < 50 {
				t.Errorf("only %d packages of the project were looked at", own)
			}
		})
	}
}

// source is a package as go list describes it, in an order in which what is
// imported comes first.
type source struct {
	ImportPath, Name, Dir string
	GoFiles               []string
	ImportMap             map[string]string
	Module                *struct{ Main bool }
}

func (p *source) own() bool { return p.Module != nil && p.Module.Main }

// check type-checks the package from its source, which is much quicker than to
// compile all that it imports for another system. Of other people's packages
// only the declarations are of interest.
func (p *source) check(sizes types.Sizes, imported map[string]*types.Package, report func(error)) *types.Package {
	files := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range p.GoFiles {
		if !filepath.IsAbs(name) {
			name = filepath.Join(p.Dir, name)
		}
		f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			report(err)
			continue
		}
		parsed = append(parsed, f)
	}
	config := types.Config{Sizes: sizes, IgnoreFuncBodies: !p.own(), Error: report, Importer: importer(func(path string) (*types.Package, error) {
		if to, ok := p.ImportMap[path]; ok {
			path = to
		}
		if found := imported[path]; found != nil {
			return found, nil
		}
		return nil, fmt.Errorf("%s is not in the list", path)
	})}
	path, _, _ := strings.Cut(p.ImportPath, " ")
	found, _ := config.Check(path, files, parsed, nil) // errors were reported
	return found
}

type importer func(path string) (*types.Package, error)

func (i importer) Import(path string) (*types.Package, error) { return i(path) }
