package main

import (
	"encoding/json"
	"flag"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

func TestGolden(t *testing.T) {
	files, err := generate(readDir("testdata/mini"), "fruit-shop")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("testdata", "golden", "fruitshop")
	if *update {
		if err := put(dir, files, false); err != nil {
			t.Fatal(err)
		}
	}
	for name, got := range files {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s differs (%v); look at it, then go test ./client/gen -update. Now:\n%s", name, err, got)
		}
	}
	compile(t, map[string]map[string][]byte{"fruitshop": files})
}

// compile builds packages as if they stood in client/.
func compile(t *testing.T, packages map[string]map[string][]byte) {
	t.Helper()
	clients, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	args := []string{"build", "-overlay", filepath.Join(temp, "overlay.json")}
	for name, files := range packages {
		pkg := "generated_for_test_" + name
		for file, text := range files {
			real := filepath.Join(temp, pkg+"_"+file)
			if err := os.WriteFile(real, text, 0o600); err != nil {
				t.Fatal(err)
			}
			overlay["Replace"][filepath.Join(clients, pkg, file)] = real
		}
		args = append(args, "taskcluster/client/"+pkg)
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(temp, "overlay.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Errorf("generated code does not compile: %v\n%s", err, out)
	}
}

// TestAllPublishedServices generates clients of every published service.
func TestAllPublishedServices(t *testing.T) {
	shared := testenv.Shared(t, "reference")
	packages := map[string]map[string][]byte{}
	for _, service := range []string{"auth", "github", "hooks", "index", "notify", "object", "purge-cache", "queue", "secrets", "web-server", "worker-manager"} {
		files, err := generate(readDir(shared), service)
		if err != nil {
			t.Errorf("%s: %v", service, err)
			continue
		}
		again, err := generate(readDir(shared), service)
		if err != nil {
			t.Fatal(err)
		}
		for name := range files {
			if string(files[name]) != string(again[name]) {
				t.Errorf("%s/%s is different each time", service, name)
			}
		}
		packages[packageName(service)] = files
	}
	compile(t, packages)
}

func TestRun(t *testing.T) {
	server := httptest.NewServer(http.FileServer(http.Dir("testdata/mini")))
	defer server.Close()
	out := t.TempDir()
	for _, references := range []string{"testdata/mini", server.URL, server.URL + "/"} {
		args := []string{"-references", references, "-services", "fruit-shop", "-out", out}
		if err := run(args, io.Discard); err != nil {
			t.Fatal(references, err)
		}
		if err := run(append(args, "-check"), io.Discard); err != nil {
			t.Error(references, err)
		}
	}
	types := filepath.Join(out, "fruitshop", "types.go")
	if err := os.WriteFile(types, []byte("package fruitshop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := []string{"-references", "testdata/mini", "-services", "fruit-shop", "-out", out, "-check"}
	if err := run(check, io.Discard); err == nil || !strings.Contains(err.Error(), "types.go") {
		t.Errorf("old file passed: %v", err)
	}
	if text, _ := os.ReadFile(types); string(text) != "package fruitshop\n" {
		t.Error("-check wrote")
	}
	os.Remove(types)
	if err := run(check, io.Discard); err == nil {
		t.Error("missing file passed")
	}
	for _, args := range [][]string{nil, {"-references", "testdata/mini"}, {"-services", "x"}, {"-nonsense"},
		{"-references", "testdata/mini", "-services", "no-such"}, {"-references", server.URL, "-services", "no-such"}} {
		if err := run(append(args, "-out", out), io.Discard); err == nil {
			t.Errorf("%q ran", args)
		}
	}
}

// TestRefusals gives references that cannot be made into a client.
func TestRefusals(t *testing.T) {
	const entry = `"type":"function","method":"get","route":"/x","query":[],"args":[],"name":"x"`
	for about, c := range map[string]struct{ entries, schema, want string }{
		"another service's reference": {want: "reference is of"},
		"blob":                        {entries: `{` + entry + `,"output":"blob"}`, want: "blob"},
		"not a function":              {entries: `{"type":"socket","name":"x"}`, want: "only functions"},
		"twice":                       {entries: `{` + entry + `},{` + entry + `}`, want: "taken"},
		"close":                       {entries: strings.Replace(`{`+entry+`}`, `"name":"x"`, `"name":"close"`, 1), want: "taken"},
		"argument missing":            {entries: strings.Replace(`{`+entry+`}`, `"/x"`, `"/x/<y>"`, 1), want: "differ"},
		"argument not in route":       {entries: strings.Replace(`{`+entry+`}`, `"args":[]`, `"args":["y"]`, 1), want: "not in the route"},
		"no schema":                   {entries: `{` + entry + `,"output":"v1/missing.json#"}`, want: "missing.json"},
		"bad pointer":                 {entries: `{` + entry + `,"output":"v1/s.json#"}`, schema: `{"$ref":"#/properties/none"}`, want: "no such schema"},
		"endless reference":           {entries: `{` + entry + `,"output":"v1/s.json#"}`, schema: `{"$ref":"#"}`, want: "too many"},
		"other service's schema":      {entries: `{` + entry + `,"output":"v1/s.json#"}`, schema: `{"$ref":"/schemas/other/v1/s.json#"}`, want: "another service"},
		"not JSON":                    {entries: `{` + entry + `,"output":"v1/s.json#"}`, schema: `{`, want: "s.json"},
		"no token in the reply": {entries: strings.Replace(`{`+entry+`,"output":"v1/s.json#"}`, `"query":[]`, `"query":["continuationToken"]`, 1),
			schema: `{"type":"object","properties":{"a":{"type":"string"}}}`, want: "continuation token"},
	} {
		service := "svc"
		if c.want == "reference is of" {
			service = "other"
		}
		read := func(path string) ([]byte, error) {
			switch path {
			case "references/svc/v1/api.json":
				return []byte(`{"serviceName":"` + service + `","apiVersion":"v1","entries":[` + c.entries + `]}`), nil
			case "schemas/svc/v1/s.json":
				return []byte(c.schema), nil
			}
			return nil, &fs.PathError{Op: "read", Path: path, Err: fs.ErrNotExist}
		}
		if _, err := generate(read, "svc"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", about, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"task-status-response": "TaskStatusResponse", "taskQueueId": "TaskQueueID", "taskIds": "TaskIDs", "putUrl": "PutURL",
		"azureTableSAS": "AzureTableSAS", "sentryDSN": "SentryDSN", "awsS3Credentials": "AWSS3Credentials", "__heartbeat__": "Heartbeat",
		"sha256": "SHA256", "list-roles2-response": "ListRoles2Response", "check_run": "CheckRun", "2fast": "X2fast", "": "X",
	} {
		if got := goName(in); got != want {
			t.Errorf("goName(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"taskId": "taskID", "id": "id", "urlPath": "urlPath", "type": "type_", "ctx": "ctx_", "name": "name", "DSN": "dsn"} {
		if got := argName(in); got != want {
			t.Errorf("argName(%q) = %q, want %q", in, got, want)
		}
	}
}
