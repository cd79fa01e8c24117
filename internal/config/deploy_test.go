package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDeploySettings: the example for deployments can be loaded, as it is and
// with everything in it switched on, and has every setting once.
func TestDeploySettings(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "taskcluster.yml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("a-secret-in-a-file"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(text string) map[string]Origin {
		t.Helper()
		text = regexp.MustCompile(`file:/\S+`).ReplaceAllString(text, "file:"+filepath.Join(dir, "secret"))
		path := filepath.Join(dir, "settings.yml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, origins, err := Load(Settings{}, path, func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]Origin{}
		for _, o := range origins {
			if strings.HasPrefix(o.Source, "file ") {
				found[o.Name] = o
			}
		}
		return found
	}
	if got := load(string(b)); got["root-url"].Value != "https://ci.example.com" {
		t.Errorf("%v", got)
	}
	setting := regexp.MustCompile(`(?m)^# ([a-z0-9-]+: \S.*)$`)
	all := load(setting.ReplaceAllString(string(b), "$1"))
	for _, name := range Names() {
		if _, ok := all[name]; !ok {
			t.Errorf("deploy/taskcluster.yml does not have the setting %s: add it, commented out, with its default or an example", name)
		}
	}
	// A default that is shown is the default.
	_, defaults, err := Load(Settings{}, "", func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	examples := []string{"artifact-store"} // shown as what the lines below it need
	for _, d := range defaults {
		if d.Source == "default" && !slices.Contains(examples, d.Name) && strings.Contains(string(b), "\n# "+d.Name+": ") && all[d.Name].Value != d.Value {
			t.Errorf("deploy/taskcluster.yml shows %s: %s, the default is %s", d.Name, all[d.Name].Value, d.Value)
		}
	}
}
