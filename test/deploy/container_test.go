package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestContainerfile builds the image with buildah, and starts what is in it.
//
// What is not as in production: no registry is asked, so the image of Go, which
// the Containerfile takes as an argument, is made here of this machine's Go, a
// static busybox as its shell, and this machine's certificates; modules and what
// was compiled before come from this machine's caches. Every step of the
// Containerfile runs. The program is started from the image's files, as the user
// that the image names where root runs the tests, but not in a container: a
// machine that tests may not be allowed to make any.
func TestContainerfile(t *testing.T) {
	for _, tool := range []string{"buildah", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("NOTE: %s is missing: deploy/Containerfile was not built; scripts/install-test-deps installs it", tool)
		}
	}
	if os.Getuid() != 0 {
		t.Skip("NOTE: deploy/Containerfile was not built: buildah's isolation chroot needs root here")
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	b := &buildah{t: t, dir: t.TempDir()}
	b.goImage()
	b.run(root, "bud", "--isolation", "chroot", "--build-arg", "GO_IMAGE=localhost/go",
		"--volume", goEnv(t, "GOMODCACHE")+":/go/pkg/mod", "--volume", goEnv(t, "GOCACHE")+":/root/.cache/go-build",
		"--ignorefile", filepath.Join(root, ".containerignore"), "-f", "deploy/Containerfile", "-t", "localhost/taskcluster", ".")

	var image struct {
		OCIv1 struct {
			Config struct {
				User                  string
				Entrypoint, Cmd, Env  []string
				ExposedPorts, Volumes map[string]any
			} `json:"config"`
		}
	}
	if err := json.Unmarshal(b.run(root, "inspect", "--type", "image", "localhost/taskcluster"), &image); err != nil {
		t.Fatal(err)
	}
	c := image.OCIv1.Config
	if c.User != "65532:65532" || !slices.Equal(c.Entrypoint, []string{"/taskcluster"}) || !slices.Equal(c.Cmd, []string{"serve"}) || c.ExposedPorts["8080/tcp"] == nil {
		t.Errorf("%+v", c)
	}
	container := strings.TrimSpace(string(b.run(root, "from", "localhost/taskcluster")))
	files := strings.TrimSpace(string(b.run(root, "mount", container)))
	var names []string
	for _, dir := range []string{"", "etc", "etc/ssl", "etc/ssl/certs"} {
		entries, err := os.ReadDir(filepath.Join(files, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	want := []string{"data", "etc", "taskcluster", "tmp", "etc/ssl", "etc/ssl/certs", "etc/ssl/certs/ca-certificates.crt"}
	slices.Sort(names)
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("the image has %v, want %v", names, want)
	}
	startImage(t, files, c.Env)
}

type buildah struct {
	t   *testing.T
	dir string
}

// run runs buildah on a storage of the test's own.
func (b *buildah) run(dir string, args ...string) []byte {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 9*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "buildah", append([]string{"--storage-driver", "vfs", "--root", filepath.Join(b.dir, "storage"), "--runroot", filepath.Join(b.dir, "run")}, args...)...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("buildah %v: %v\n%s%s", args, err, &stdout, &stderr)
	}
	return stdout.Bytes()
}

// goImage makes the image localhost/go.
func (b *buildah) goImage() {
	context := filepath.Join(b.dir, "context")
	for _, dir := range []string{"bin", "tmp", "root", "etc/ssl/certs"} {
		if err := os.MkdirAll(filepath.Join(context, dir), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		b.t.Fatal(err)
	}
	for from, to := range map[string]string{busybox: "bin/busybox", "/etc/ssl/certs/ca-certificates.crt": "etc/ssl/certs/ca-certificates.crt"} {
		text, err := os.ReadFile(from)
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(context, to), text, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, name := range []string{"sh", "mkdir"} {
		if err := os.Symlink("busybox", filepath.Join(context, "bin", name)); err != nil {
			b.t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", "-r", goEnv(b.t, "GOROOT"), filepath.Join(context, "go")).CombinedOutput(); err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	text := "FROM scratch\nCOPY . /\nENV PATH=/go/bin:/bin GOROOT=/go GOPATH=/go-path GOMODCACHE=/go/pkg/mod GOCACHE=/root/.cache/go-build GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=readonly HOME=/root\n"
	file := filepath.Join(b.dir, "Containerfile.go")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.run(context, "bud", "--isolation", "chroot", "-f", file, "-t", "localhost/go", ".")
	os.RemoveAll(context)
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
