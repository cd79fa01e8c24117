package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// TestArtifactSettings starts a server with each of the settings that
// docs/artifacts.md shows, and runs its program against it.
func TestArtifactSettings(t *testing.T) {
	binary := harness.Binary(t)
	root := testenv.Root(t)
	s3 := testenv.S3(t)
	t.Setenv("S3_SECRET", s3.SecretAccessKey)
	var settings, programs []block
	for _, b := range blocks(t, filepath.Join(root, "docs", "artifacts.md")) {
		switch b.language {
		case "settings":
			b.text = strings.NewReplacer("http://localhost:9000", s3.Endpoint, "my-access-key", s3.AccessKeyID, "my-secret", s3.SecretAccessKey).Replace(b.text)
			settings = append(settings, b)
		case "js":
			programs = append(programs, b)
		}
	}
	if len(settings) < 2 || len(programs) < 1 {
		t.Fatalf("%d settings and %d programs were found", len(settings), len(programs))
	}
	for _, b := range settings {
		t.Run(b.place, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "settings.yml")
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			server := harness.Start(t, binary, t.TempDir(), "--config", file)
			defer server.Stop()
			for _, p := range programs {
				javaScript(t, p, server.Env())
			}
		})
	}
}
