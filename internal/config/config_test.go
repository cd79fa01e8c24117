package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func env(m map[string]string) func(string) string { return func(k string) string { return m[k] } }

func ptr[T any](v T) *T { return &v }

func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yml")
	os.WriteFile(file, []byte("listen: file:1\nclaim-timeout: 30s\nworker-capacity: 7\nonly: [queue, auth]\n"), 0o600)
	got, origins, err := Load(Settings{Listen: ptr("flag:3")}, file, env(map[string]string{
		"TASKCLUSTER_LISTEN": "env:2", "TASKCLUSTER_WORKER_CAPACITY": "8",
	}))
	if err != nil {
		t.Fatal(err)
	}
	if *got.Listen != "flag:3" || *got.WorkerCapacity != 8 || *got.ClaimTimeout != 30*time.Second || *got.DataDir != "data" {
		t.Errorf("%+v", origins)
	}
	if strings.Join(*got.Only, " ") != "queue auth" {
		t.Errorf("only = %v", *got.Only)
	}
	want := map[string]string{"listen": "flag --listen", "worker-capacity": "environment TASKCLUSTER_WORKER_CAPACITY", "claim-timeout": "file " + file, "data-dir": "default"}
	for _, o := range origins {
		if w, ok := want[o.Name]; ok && o.Source != w {
			t.Errorf("%s came from %q, want %q", o.Name, o.Source, w)
		}
	}
}

func TestSecretsAreReadFromReferencesAndHidden(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	os.WriteFile(file, []byte("hunter2hunter2hunter2hunter2\n"), 0o600)
	got, origins, err := Load(Settings{}, "", env(map[string]string{"TASKCLUSTER_ROOT_ACCESS_TOKEN": "file:" + file}))
	if err != nil || string(*got.RootAccessToken) != "hunter2hunter2hunter2hunter2" {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", origins, *got.RootAccessToken, *got.RootAccessToken); strings.Contains(text, "hunter2") {
		t.Errorf("the secret shows: %s", text)
	}
	if _, _, err := Load(Settings{}, "", env(map[string]string{"TASKCLUSTER_ROOT_ACCESS_TOKEN": "env:NOWHERE"})); err == nil {
		t.Error("a reference to nothing must be refused")
	}
}

func TestStructuredSecretsMayBeWrittenAsYAML(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yml")
	os.WriteFile(file, []byte("azure-accounts:\n- account: abc\n  key: hunter2\nsentry:\n  organization: mine\n  authToken: hunter2\n"), 0o600)
	got, origins, err := Load(Settings{}, file, env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"account":"abc","key":"hunter2"}]`; string(*got.AzureAccounts) != want {
		t.Errorf("%s, want %s", string(*got.AzureAccounts), want)
	}
	if want := `{"authToken":"hunter2","organization":"mine"}`; string(*got.Sentry) != want {
		t.Errorf("%s, want %s", string(*got.Sentry), want)
	}
	if text := fmt.Sprintf("%+v", origins); strings.Contains(text, "hunter2") {
		t.Errorf("a secret shows: %s", text)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) string {
		f := filepath.Join(dir, "f.yml")
		os.WriteFile(f, []byte(text), 0o600)
		return f
	}
	for name, c := range map[string]struct {
		file, want string
		env        map[string]string
	}{
		"unknown key":      {write("lisen: x:1\n"), `no setting "lisen"`, nil},
		"not there":        {filepath.Join(dir, "none"), "does not exist", nil},
		"bad duration":     {"", `"soon" is not a time.Duration`, map[string]string{"TASKCLUSTER_CLAIM_TIMEOUT": "soon"}},
		"bad level":        {"", `"loud" is none of`, map[string]string{"TASKCLUSTER_LOG_LEVEL": "loud"}},
		"bad listen":       {"", "is not host:port", map[string]string{"TASKCLUSTER_LISTEN": "8080"}},
		"bad root url":     {"", "is not a URL like", map[string]string{"TASKCLUSTER_ROOT_URL": "ci.example.com"}},
		"root url's path":  {"", "without a path", map[string]string{"TASKCLUSTER_ROOT_URL": "https://ci.example.com/tc/"}},
		"root url's query": {"", "https://ci.example.com is all", map[string]string{"TASKCLUSTER_ROOT_URL": "https://ci.example.com?x=y"}},
		"root url's user":  {"", "https://ci.example.com is all", map[string]string{"TASKCLUSTER_ROOT_URL": "https://me:hunter2@ci.example.com"}},
	} {
		if name == "unknown key" {
			c.file = write("lisen: x:1\n")
		}
		if _, _, err := Load(Settings{}, c.file, env(c.env)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What has a structure is JSON in the environment and as it is in a file.
func TestStructuredSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yml")
	os.WriteFile(file, []byte("object-backends: {a: {backendType: aws, secretAccessKey: hunter2}}\nobject-backend-map:\n- backendId: a\n  when: {name: {regexp: ^x}}\n"), 0o600)
	got, origins, err := Load(Settings{}, file, env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if string(*got.ObjectBackends) != `{"a":{"backendType":"aws","secretAccessKey":"hunter2"}}` || *got.ObjectMap != `[{"backendId":"a","when":{"name":{"regexp":"^x"}}}]` {
		t.Error(string(*got.ObjectBackends), *got.ObjectMap)
	}
	if text := fmt.Sprint(origins); strings.Contains(text, "hunter2") {
		t.Errorf("the secret shows: %s", text)
	}
}

func TestArtifactStore(t *testing.T) {
	s3 := map[string]string{"TASKCLUSTER_ARTIFACT_STORE": "s3", "TASKCLUSTER_S3_BUCKET": "b", "TASKCLUSTER_S3_ACCESS_KEY_ID": "a", "TASKCLUSTER_S3_SECRET_ACCESS_KEY": "s"}
	if _, _, err := Load(Settings{}, "", env(s3)); err != nil {
		t.Error(err)
	}
	for name, value := range map[string]string{
		"TASKCLUSTER_S3_BUCKET": "", "TASKCLUSTER_S3_ACCESS_KEY_ID": "", "TASKCLUSTER_S3_SECRET_ACCESS_KEY": "",
		"TASKCLUSTER_ARTIFACT_STORE": "gcs", "TASKCLUSTER_MAX_ARTIFACT_SIZE": "5",
	} {
		changed := maps.Clone(s3)
		changed[name] = value
		setting := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "TASKCLUSTER_"), "_", "-"))
		if _, _, err := Load(Settings{}, "", env(changed)); err == nil || !strings.Contains(err.Error(), "setting "+setting) {
			t.Errorf("%s=%q: %v", name, value, err)
		}
	}
	if _, _, err := Load(Settings{}, "", env(map[string]string{"TASKCLUSTER_S3_BUCKET": "b"})); err == nil || !strings.Contains(err.Error(), "set artifact-store to s3") {
		t.Error(err)
	}
}

func TestRootURLFollowsListen(t *testing.T) {
	for listen, want := range map[string]string{"localhost:9": "http://localhost:9", ":9": "http://localhost:9", "0.0.0.0:9": "http://localhost:9", "[::1]:9": "http://[::1]:9"} {
		got, _, err := Load(Settings{Listen: ptr(listen)}, "", env(nil))
		if err != nil || *got.RootURL != want {
			t.Errorf("%s: %v, %v", listen, got.RootURL, err)
		}
	}
}
