package docs

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGuard: a test that fails, or is killed, leaves no server behind, and none
// of its children, even of one that was killed itself.
func TestGuard(t *testing.T) {
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("NOTE: nginx is missing: that tests stop it was not tried; scripts/install-test-deps installs it")
	}
	for name, kill := range map[string]bool{"running": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "tc-guard-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			address := freeAddress(t)
			for path, text := range map[string]string{
				"run/x.log": "", "etc/nginx/nginx.conf": strings.ReplaceAll(nginxMain, "/etc/", dir+"/etc/"),
				"etc/nginx/conf.d/x.conf": "server { listen " + address + "; }\n",
			} {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var master int
			t.Run("started", func(t *testing.T) { // whose cleanup is what is tested
				guard(t, dir)
				start := exec.Command("testdata/bin/systemctl", "start", "nginx")
				start.Env = append(os.Environ(), "MACHINE="+dir)
				if out, err := start.CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				text, err := os.ReadFile(filepath.Join(dir, "run", "nginx-0"))
				if err == nil {
					master, err = strconv.Atoi(strings.TrimSpace(string(text)))
				}
				if err != nil {
					t.Fatal(err)
				}
				conn, err := net.Dial("tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				conn.Close()
				if kill {
					syscall.Kill(master, syscall.SIGKILL)
				}
			})
			for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					break
				}
				conn.Close()
				if time.Now().After(end) {
					t.Fatal("the server still listens")
				}
			}
			if out, _ := exec.Command("ps", "-o", "pid=,stat=,args=", "-s", strconv.Itoa(master)).Output(); strings.Contains(string(out), "nginx:") {
				t.Errorf("there are still\n%s", out)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Errorf("%s is still there", dir)
			}
		})
	}
}
