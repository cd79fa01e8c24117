// Package conformance drives the server with the official JavaScript client, as
// other people's programs do.
package conformance

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// TestJavaScriptClient runs the *.test.mjs files beside this one against a
// server of their own. A second, short-lived claim time-out is configured so
// that claim expiry can be seen.
func TestJavaScriptClient(t *testing.T) {
	install(t)
	files, err := filepath.Glob("*.test.mjs")
	if err != nil || len(files) == 0 {
		t.Fatal("no *.test.mjs files", err)
	}
	// The events of this deployment are mirrored to the broker whose users it lends.
	rabbit := testenv.RabbitMQ(t)
	t.Setenv("AMQP_URL", rabbit.URL)
	t.Setenv("PULSE_MANAGEMENT_URL", rabbit.ManagementURL())
	server := harness.Start(t, harness.Binary(t), t.TempDir(), "--claim-timeout", "5s",
		"--amqp-url", "env:AMQP_URL", "--pulse-management-url", "env:PULSE_MANAGEMENT_URL")
	defer server.Stop()
	called := filepath.Join(t.TempDir(), "called")
	env := append(server.Env(), "CONFORMANCE_CALLED="+called)
	harness.Passthrough(t, ".", env, "node", append([]string{"--test", "--test-reporter=spec"}, files...)...)
	checkCalled(t, server.RootURL, called)
	if t.Failed() {
		t.Log(server.Log())
	}
}

// TestBucket runs what is about artifacts and objects once more, against a
// server that keeps them in a bucket of S3.
func TestBucket(t *testing.T) {
	install(t)
	s3 := testenv.S3(t)
	t.Setenv("S3_SECRET", s3.SecretAccessKey)
	server := harness.Start(t, harness.Binary(t), t.TempDir(), "--claim-timeout", "5s",
		"--artifact-store", "s3", "--s3-endpoint", s3.Endpoint, "--s3-bucket", s3.Bucket, "--s3-path-style",
		"--s3-access-key-id", s3.AccessKeyID, "--s3-secret-access-key", "env:S3_SECRET")
	defer server.Stop()
	harness.Passthrough(t, ".", server.Env(), "node", "--test", "--test-reporter=spec", "object.test.mjs", "artifacts.test.mjs")
	if t.Failed() {
		t.Log(server.Log())
	}
}

// checkCalled sees to it that the client called every method that the
// deployment publishes, and was answered as it should be.
func checkCalled(t *testing.T, rootURL, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		called[strings.TrimSpace(line)] = true
	}
	get := func(url string, into any) {
		t.Helper()
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
			t.Fatal(err)
		}
	}
	var manifest struct{ References []string }
	get(rootURL+"/references/manifest.json", &manifest)
	methods := 0
	for _, url := range manifest.References {
		if !strings.HasSuffix(url, "/api.json") {
			continue
		}
		var reference struct {
			ServiceName string
			Entries     []struct{ Name string }
		}
		get(url, &reference)
		for _, m := range reference.Entries {
			methods++
			// A WebSocket is no call; services/events tests it.
			if name := reference.ServiceName + "." + m.Name; !called[name] && name != "events.socket" {
				t.Errorf("%s was never called with success; add it to a *.test.mjs", name)
			}
		}
	}
	if methods < 90 {
		t.Errorf("only %d methods are published", methods)
	}
}

// TestScopes calls methods with the scopes that the reference asks for, and with
// one of them missing. It has a server of its own because it takes away the
// role that gives everybody access.
func TestScopes(t *testing.T) {
	install(t)
	server := harness.Start(t, harness.Binary(t), t.TempDir())
	defer server.Stop()
	harness.Passthrough(t, ".", server.Env(), "node", "--test", "--test-reporter=spec", "scopes.mjs")
	if t.Failed() {
		t.Log(server.Log())
	}
}

// install fetches what package-lock.json names, once.
func install(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("node_modules/taskcluster-client"); err == nil {
		return
	}
	cmd := exec.Command("npm", "ci", "--silent", "--no-audit", "--no-fund")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// TestReferences compares what the server publishes with the published
// references, for the services that this version has.
func TestReferences(t *testing.T) {
	check := testenv.Shared(t, "check/references")
	server := harness.Start(t, harness.Binary(t), t.TempDir())
	defer server.Stop()
	out, _ := exec.Command(check, server.RootURL, "--services=auth,queue,object,purge-cache,common").CombinedOutput()
	if !strings.Contains(string(out), "reference items match") {
		t.Fatalf("the comparison did not run: %s", out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "/") {
			t.Errorf("differs from the published reference: %s", line)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

func TestEnvIsWhatClientsRead(t *testing.T) {
	server := harness.Start(t, harness.Binary(t), t.TempDir())
	defer server.Stop()
	cmd := exec.Command("node", "-e", `import('taskcluster-client').then(async m => {
		const tc = m.default;
		const auth = new tc.Auth(tc.fromEnvVars());
		console.log(JSON.stringify(await auth.currentScopes()));
	})`)
	cmd.Env = server.Env()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Scopes []string }
	if err := json.Unmarshal(out, &got); err != nil || len(got.Scopes) != 1 || got.Scopes[0] != "*" {
		t.Errorf("%s, %v", out, err)
	}
}
