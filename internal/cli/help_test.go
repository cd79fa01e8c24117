package cli

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of the help anew")

// everyCommand returns the commands of the tree, "" being the program.
func everyCommand(t *testing.T) []*kong.Node {
	t.Helper()
	parser, err := kong.New(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	var all []*kong.Node
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		all = append(all, n)
		for _, child := range n.Children {
			walk(child)
		}
	}
	walk(parser.Model.Node)
	return all
}

// TestHelp compares the help of every command with testdata/help.
func TestHelp(t *testing.T) {
	f := newFakeQueue(t)
	seen := map[string]bool{}
	for _, node := range everyCommand(t) {
		words := strings.Fields(commandPath(node))
		r := f.command("", append(words, "--help")...)
		if r.status != 0 || r.stderr != "" {
			t.Errorf("%v: %+v", words, r)
		}
		if other := f.command("", append([]string{"help"}, words...)...); other != r {
			t.Errorf("help %v differs from --help: %s", words, cmp.Diff(r.stdout, other.stdout))
		}
		if len(node.Children) == 0 && !strings.Contains(r.stdout, "\nExamples:\n") {
			t.Errorf("%v has no examples", words)
		}
		for line := range strings.Lines(r.stdout) {
			if len(line) > 101 {
				t.Errorf("%v: the line is too long: %s", words, line)
			}
		}
		name := filepath.Join("testdata", "help", strings.Join(append([]string{"taskcluster"}, words...), "-")+".txt")
		seen[name] = true
		if *update {
			if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, []byte(r.stdout), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), r.stdout); diff != "" {
			t.Errorf("%s (go test -update writes it anew): %s", name, diff)
		}
	}
	files, err := filepath.Glob("testdata/help/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if !seen[name] {
			t.Errorf("%s belongs to no command", name)
		}
	}
}

// TestBashCompletion sources the script and completes with it.
func TestBashCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("NOTE: bash is missing: its completion was not tried")
	}
	f := newFakeQueue(t)
	script := f.command("", "completion", "bash").stdout
	dir := t.TempDir()
	for _, name := range []string{"graph one.yml", "graph.yml"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"taskcluster se":                      "serve",
		"taskcluster task l":                  "log",
		"taskcluster task log --fol":          "--follow",
		"taskcluster --json group can":        "cancel",
		"taskcluster completion ":             "bash,zsh,fish,--help",
		"taskcluster serve --log-level ":      "debug,info,warn,error",
		"taskcluster serve --log-level w":     "warn",
		"taskcluster run gr":                  "graph one.yml,graph.yml",
		"taskcluster run graph.yml --cancel-": "--cancel-on-interrupt",
		"taskcluster task status xyz --js":    "--json",
		"taskcluster nonsense task lo":        "log",
		"taskcluster version graph":           "",
	} {
		words := strings.Split(line, " ")
		cmd := exec.Command(bash, "--norc", "--noprofile", "-c", script+"\n"+
			`COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _taskcluster; printf '%s\n' "${COMPREPLY[@]}" | paste -sd,`, "bash")
		cmd.Args = append(cmd.Args, words...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		got, wanted := strings.Split(strings.TrimSpace(string(out)), ","), strings.Split(want, ",")
		slices.Sort(got)
		slices.Sort(wanted)
		if err != nil || !slices.Equal(got, wanted) {
			t.Errorf("%q completes to %q, want %q (%v)", line, got, wanted, err)
		}
	}
}

// TestOtherCompletions lets the shells that are there read their scripts.
func TestOtherCompletions(t *testing.T) {
	f := newFakeQueue(t)
	for _, shell := range []string{"zsh", "fish"} {
		r := f.command("", "completion", shell)
		contains(t, shell, r.stdout, "completion", "cancel-on-interrupt", "debug info warn error")
		if r.status != 0 || strings.Contains(r.stdout, "%!") {
			t.Errorf("%+v", r)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("%s is missing: it did not read its completion", shell)
			continue
		}
		cmd := exec.Command(path, "-n")
		cmd.Stdin = strings.NewReader(r.stdout)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, out)
		}
	}
}
