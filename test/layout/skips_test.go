package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

// TestSkipsAreNoted: a function that skips a test says why in a note, which
// test/report shows after all tests. In files that walk with rapid, a step that
// does not apply is skipped as well, so they are not looked at.
func TestSkipsAreNoted(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(testenv.Root(t), func(path string, entry fs.DirEntry, err error) error {
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return filepath.SkipDir
		}
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil || slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"pgregory.net/rapid"` }) {
			return err
		}
		for _, d := range file.Decls {
			skip, noted := skips(d)
			if !skip.IsValid() {
				continue
			}
			if seen++; !noted {
				t.Errorf("%s: a test is skipped without a reason that begins with \"NOTE: \"", files.Position(skip))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 10 {
		t.Errorf("only %d functions that skip were looked at", seen)
	}
}

// skips finds where a declaration skips a test, and whether it has a note.
func skips(d ast.Decl) (at token.Pos, noted bool) {
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			noted = noted || strings.HasPrefix(n.Value, `"NOTE: `)
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Skip" || f.Sel.Name == "Skipf" || f.Sel.Name == "SkipNow") {
				at = n.Pos()
			}
		}
		return true
	})
	return at, noted
}
