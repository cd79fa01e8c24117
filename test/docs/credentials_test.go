package docs

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
	"taskcluster/services/auth/broker/brokertest"
	"taskcluster/test/harness"
)

// TestCredentialSettings starts a server with the settings that
// docs/credentials.md shows, with keys that are keys.
func TestCredentialSettings(t *testing.T) {
	google := brokertest.NewGCP("tasks@my-project.iam.gserviceaccount.com")
	defer google.Close()
	github := brokertest.NewGitHub(nil, map[string]string{"contents": "read"})
	defer github.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	found := 0
	for _, b := range blocks(t, filepath.Join(testenv.Root(t), "docs", "credentials.md")) {
		if b.language == "json" && !json.Valid([]byte(b.text)) {
			t.Errorf("%s is not JSON", b.place)
		}
		if b.language != "settings" {
			continue
		}
		found++
		file := write("settings.yml", strings.NewReplacer(
			"file:gcp.json", "file:"+write("gcp.json", google.Setting("tasks@my-project.iam.gserviceaccount.com")),
			"file:github.json", "file:"+write("github.json", github.Setting()),
		).Replace(b.text))
		server := harness.Start(t, harness.Binary(t), t.TempDir(), "--config", file)
		defer server.Stop()
		res, err := http.Get(server.RootURL + "/api/auth/v1/ping")
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatal(res, err)
		}
		res.Body.Close()
	}
	if found != 1 {
		t.Errorf("%d blocks of settings were found", found)
	}
}
