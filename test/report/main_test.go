package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestReport runs real tests: one package passes in part, one fails, and one
// cannot be built. A test skips the first time and passes the second.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example\n\ngo 1.24\n",
		"good/good_test.go": `package good

import (
	"os"
	"testing"
)

func TestFine(t *testing.T)  { t.Log("nobody wants to read this") }
func TestTool(t *testing.T)  { t.Skip("NOTE: the tool is missing") }
func TestToo(t *testing.T)   { t.Run("sub", func(t *testing.T) { t.Skip("NOTE: the tool is missing") }) }
func TestSecond(t *testing.T) {
	if os.Getenv("SECOND") == "" {
		t.Skip("NOTE: not now")
	}
}
`,
		"bad/bad_test.go": `package bad

import "testing"

func TestFine(t *testing.T)   { t.Log("nobody wants to read this") }
func TestBroken(t *testing.T) { t.Error("it is broken") }
`,
		"worse/worse_test.go": "package worse\n\nvar Broken = undefined\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(env string, packages ...string) (text []byte) {
		cmd := exec.Command("go", append([]string{"test", "-json"}, packages...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK=off", env)
		text, _ = cmd.Output() // some fail
		return text
	}
	var out bytes.Buffer
	in := append(append(run("SECOND=", "./..."), "a script says this\n"...), run("SECOND=1", "./good")...)
	if err := report(bytes.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"ok  \texample/good", "--- FAIL: TestBroken", "bad_test.go:6: it is broken", "FAIL\texample/bad", "undefined: undefined", "a script says this\n",
		"\nNot everything was tested:\nNOTE: the tool is missing\n      example/good TestTool\n      example/good TestToo/sub\nFAILED: ", "FAILED: example/bad\n", "FAILED: example/worse\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, no := range []string{"nobody wants", "not now", `"Action"`} {
		if strings.Contains(text, no) {
			t.Errorf("%q is there", no)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}
