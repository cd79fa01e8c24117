package docs

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"taskcluster/client"
	"taskcluster/client/pulse"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
	"taskcluster/internal/testenv"
	"taskcluster/test/harness"
)

// TestOperating does what docs/operating.md says, from the laptop to three
// nodes: it writes the files that the page shows and runs its commands, in order,
// against PostgreSQL, an S3 server, RabbitMQ, a mail server, nginx and HAProxy.
//
// What is not as on a real machine: directories such as /etc lie below one of the
// test's own, addresses are free ports of this one, nobody becomes another user,
// and systemctl is a script that starts what the unit file says. testdata/bin has
// these stand-ins.
func TestOperating(t *testing.T) {
	for _, name := range []string{"nginx", "haproxy", "curl", "openssl", "psql", "pg_dump"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOTE: %s is missing: docs/operating.md was not tried; scripts/install-test-deps installs it", name)
		}
	}
	m := newMachine(t)
	section, laptop := "", func() {}
	for _, b := range sections(t, filepath.Join(testenv.Root(t), "docs", "operating.md")) {
		if b.section != section {
			m.after(section)
			if section = b.section; section != "On a laptop" {
				laptop()
				laptop = func() {}
			}
		}
		language, where, _ := strings.Cut(b.language, " ")
		switch {
		case strings.HasPrefix(where, "/"):
			m.write(where, b.text)
		case language == "sh" && strings.HasPrefix(b.text, "taskcluster serve"):
			laptop = m.background(b)
		case language == "sh" && where == "nodes":
			for node := range m.nodes {
				m.run(b, node)
			}
		case language == "sh" && where == "":
			m.run(b, 0)
		default:
			t.Errorf("%s: nothing is done with this block of %q", b.place, b.language)
		}
	}
	m.after(section)
	if m.ran < 15 {
		t.Errorf("only %d blocks of commands were run", m.ran)
	}
}

type sectioned struct {
	block
	section string
}

// sections are the blocks of a document with the headings that they stand under.
func sections(t *testing.T, path string) (list []sectioned) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	section, all, n := "", blocks(t, path), 0
	inside := false
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "```"):
			if inside = !inside; inside {
				list = append(list, sectioned{all[n], section})
				n++
			}
		case !inside && strings.HasPrefix(line, "## "):
			section = strings.TrimSpace(line[3:])
		}
	}
	return list
}

// machine is a directory that stands for a machine, and later for three.
type machine struct {
	t     *testing.T
	dir   string
	nodes []string // the address of each
	root  string   // URL
	env   []string
	words *strings.Replacer
	ran   int
	tasks []string // that were made so far
	quiet int      // how many of them were before RabbitMQ
}

func newMachine(t *testing.T) *machine {
	dir, err := os.MkdirTemp("", "tc-operating-") // sockets need a short path
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, dir: dir}
	guard(t, dir)
	postgres := testenv.Postgres(t)
	_, database, _ := strings.Cut(postgres.URL, "@")
	database, _, _ = strings.Cut(database, "/")
	_, databasePort, _ := strings.Cut(database, ":")
	s3 := testenv.S3(t)
	rabbit := testenv.RabbitMQ(t)
	for range 3 {
		m.nodes = append(m.nodes, freeAddress(t))
	}
	proxy := freeAddress(t)
	_, port, _ := strings.Cut(proxy, ":")
	m.root = "https://localhost:" + port
	for _, d := range []string{"bin", "examples", "deploy", "run", "etc/systemd/system", "etc/nginx/conf.d", "etc/haproxy", "etc/ssl/taskcluster", "var/lib", "usr/local/bin", "opt"} {
		m.mkdir(d)
	}
	tree := testenv.Root(t)
	copyInto(t, m.path("bin"), harness.Binary(t))
	for _, pattern := range []string{"examples/*.yml", "deploy/taskcluster.service"} {
		files, _ := filepath.Glob(filepath.Join(tree, pattern))
		copyInto(t, m.path(filepath.Dir(pattern)), files...)
	}
	stands, _ := filepath.Glob(filepath.Join(tree, "test/docs/testdata/bin/*"))
	copyInto(t, m.path("bin"), stands...)
	m.certificate()
	for _, program := range []string{"rabbitmqctl", "rabbitmq-plugins"} {
		script := "#!/bin/sh\nexport '" + strings.Join(rabbit.Env(), "' '") + "'\nexec " + program + " \"$@\"\n"
		if err := os.WriteFile(m.path("bin/"+program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(modules(t), m.path("opt/node_modules")); err != nil {
		t.Fatal(err)
	}
	m.words = strings.NewReplacer(
		"/etc/", dir+"/etc/", "/var/lib/", dir+"/var/lib/", "/usr/local/bin/", dir+"/usr/local/bin/", "/opt/", dir+"/opt/", "/backup", dir+"/backup",
		"https://ci.example.com", m.root, "listen 443", "listen "+proxy, "bind :443", "bind "+proxy,
		"10.0.0.1:8080", m.nodes[0], "10.0.0.2:8080", m.nodes[1], "10.0.0.3:8080", m.nodes[2], "0.0.0.0:8080", m.nodes[0],
		"localhost:5432", database, "localhost:5672", rabbit.Addr, "localhost:15672", strings.TrimPrefix(rabbit.Management, "http://"), "https://s3.example.com", s3.Endpoint, "taskcluster-artifacts", s3.Bucket, "my-access-key", s3.AccessKeyID,
	)
	m.write("/etc/taskcluster/s3-secret", s3.SecretAccessKey)
	mails := testenv.Mails(t, testenv.MailSTARTTLS)
	m.write("/etc/taskcluster/smtp-url", "smtp://"+url.UserPassword(testenv.MailUser, testenv.MailPassword).String()+"@"+mails.Addr+"?cacertfile="+mails.CA)
	m.write("/etc/nginx/nginx.conf", nginxMain)
	m.env = []string{
		"PATH=" + m.path("bin") + ":" + os.Getenv("PATH"), "HOME=" + dir, "MACHINE=" + dir, "SSL_CERT_FILE=" + m.path("etc/ssl/taskcluster/ci.example.com.pem"),
		"NODE_EXTRA_CA_CERTS=" + m.path("etc/ssl/taskcluster/ci.example.com.pem"),
		"PGHOST=127.0.0.1", "PGPORT=" + databasePort, "PGUSER=test", "PGDATABASE=postgres",
	}
	return m
}

// guard stops what the machine in dir has started, and removes it, at the end of
// the test, and also when the test's process is ended before.
func guard(t *testing.T, dir string) {
	t.Helper()
	cmd := exec.Command("testdata/bin/systemctl", "guard")
	cmd.Env = append(os.Environ(), "MACHINE="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends the test does not end it
	end, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("what the test started may still run: %v", err)
		}
	})
}

const nginxMain = `worker_processes 1;
pid /etc/nginx/pid;
error_log /etc/nginx/error.log;
events {}
http {
  access_log off;
  client_body_temp_path /etc/nginx/body;
  proxy_temp_path /etc/nginx/proxy;
  fastcgi_temp_path /etc/nginx/fastcgi;
  uwsgi_temp_path /etc/nginx/uwsgi;
  scgi_temp_path /etc/nginx/scgi;
  include /etc/nginx/conf.d/*.conf;
}
`

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func copyInto(t *testing.T, dir string, files ...string) {
	t.Helper()
	if len(files) == 0 {
		t.Fatalf("there is nothing to copy into %s", dir)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) path(below string) string { return filepath.Join(m.dir, below) }

func (m *machine) mkdir(below string) {
	if err := os.MkdirAll(m.path(below), 0o700); err != nil {
		m.t.Fatal(err)
	}
}

// write writes a file of the page.
func (m *machine) write(path, text string) {
	m.t.Helper()
	m.mkdir(filepath.Dir(path))
	if err := os.WriteFile(m.path(path), []byte(m.localized(text, 0)), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// localized is text of the page as it must be here.
func (m *machine) localized(text string, node int) string {
	return strings.ReplaceAll(m.words.Replace(text), "127.0.0.1:8080", m.nodes[node])
}

func (m *machine) certificate() {
	m.t.Helper()
	cert, key := m.path("etc/ssl/taskcluster/ci.example.com.pem"), m.path("etc/ssl/taskcluster/ci.example.com.key")
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	var both []byte
	for _, file := range []string{cert, key} {
		text, err := os.ReadFile(file)
		if err != nil {
			m.t.Fatal(err)
		}
		both = append(both, text...)
	}
	if err := os.WriteFile(m.path("etc/ssl/taskcluster/both.pem"), both, 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// command is a block's commands as a script, which begins with the variables of
// the one before.
func (m *machine) command(ctx context.Context, b sectioned, node int) *exec.Cmd {
	script := "set -euo pipefail\n[ ! -f variables ] || . ./variables\n" + m.localized(b.text, node)
	cmd := exec.CommandContext(ctx, "bash", "-c", script+"\nexport -p | grep TASKCLUSTER_ | grep -v -e _LISTEN= -e _DATA_DIR= >variables || true\n")
	data := "var/lib/taskcluster"
	if node > 0 {
		data += fmt.Sprint(node + 1)
	}
	cmd.Dir, cmd.WaitDelay = m.dir, 10*time.Second
	cmd.Env = append(m.env, fmt.Sprintf("NODE=%d", node), "TASKCLUSTER_LISTEN="+m.nodes[node])
	if b.section != "On a laptop" {
		cmd.Env = append(cmd.Env, "TASKCLUSTER_DATA_DIR="+m.path(data))
	}
	return cmd
}

func (m *machine) run(b sectioned, node int) {
	m.t.Helper()
	m.ran++
	ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
	defer cancel()
	out, err := os.CreateTemp(m.dir, "out")
	if err != nil {
		m.t.Fatal(err)
	}
	defer out.Close()
	cmd := m.command(ctx, b, node)
	cmd.Stdout, cmd.Stderr = out, out // a file, which servers may keep open
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		log, _ := os.ReadFile(m.path(fmt.Sprintf("run/taskcluster-%d.log", node)))
		m.t.Fatalf("%s (%s), node %d: %v\n%s\n%s\n%s", b.place, b.section, node+1, err, b.text, text, log[max(0, len(log)-5000):])
	}
}

// background runs a server until stop is called.
func (m *machine) background(b sectioned) (stop func()) {
	m.t.Helper()
	m.ran++
	cmd := m.command(m.t.Context(), sectioned{block{b.place, b.language, "exec " + b.text}, b.section}, 0)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if exec.Command("curl", "--fail", "--silent", "http://"+m.nodes[0]+"/readyz").Run() == nil {
			break
		}
		if time.Now().After(end) {
			m.t.Fatalf("%s does not serve", b.place)
		}
	}
	return func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			m.t.Errorf("%s: %v\n%s", b.place, err, &log)
		}
	}
}

// after looks whether what a section promises is so.
func (m *machine) after(section string) {
	m.t.Helper()
	switch section {
	case "One server", "S3":
		m.newTask()
	case "PostgreSQL":
		m.tasks = nil // as the page says
		m.newTask()
	case "RabbitMQ":
		m.quiet = len(m.tasks)
		m.newTask()
	case "Users of RabbitMQ for others":
		m.newTask()
		m.borrow()
	case "Three nodes":
		m.newTask()
		m.borrow()
		m.stand("kill", 1)
		for range 5 {
			m.newTask()
		}
		m.hearTasks()
	}
	m.findTasks(section)
}

// stand calls the stand-in of systemctl.
func (m *machine) stand(verb string, node int) {
	m.t.Helper()
	cmd := exec.Command(m.path("bin/systemctl"), verb, "taskcluster")
	cmd.Env = append(m.env, fmt.Sprintf("NODE=%d", node))
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
}

func (m *machine) queue() *queue.Client {
	m.t.Helper()
	q, err := queue.New(m.client())
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { q.Close() })
	return q
}

// borrow claims a namespace through the proxy, and connects as it is told.
func (m *machine) borrow() {
	m.t.Helper()
	p, err := pulse.New(m.client())
	if err != nil {
		m.t.Fatal(err)
	}
	defer p.Close()
	claim, err := p.ClaimNamespace(m.t.Context(), "pulse-somebody", &pulse.ClaimNamespaceRequest{Contact: "somebody@example.com"})
	if err != nil {
		m.t.Fatal(err)
	}
	conn, err := amqp.Dial(claim.ConnectionString)
	if err != nil {
		m.t.Fatal(err)
	}
	conn.Close()
}

// client is how to call the deployment as the page's last commands do.
func (m *machine) client() client.Config {
	m.t.Helper()
	text, err := os.ReadFile(m.path("variables"))
	if err != nil {
		m.t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "declare -x "), "=")
		found[name] = strings.Trim(value, `"`)
	}
	return client.Config{RootURL: found["TASKCLUSTER_ROOT_URL"], Transport: trusting(m.t, m.path("etc/ssl/taskcluster/ci.example.com.pem")),
		Credentials: client.Credentials{ClientID: found["TASKCLUSTER_CLIENT_ID"], AccessToken: found["TASKCLUSTER_ACCESS_TOKEN"]}}
}

// newTask makes a task through the proxy, as anybody would.
func (m *machine) newTask() {
	m.t.Helper()
	id := slugid.New().String()
	now := time.Now()
	_, err := m.queue().CreateTask(m.t.Context(), id, &queue.CreateTaskRequest{
		TaskQueueID: "prov/type", ProjectID: "prj", Created: client.At(now), Deadline: client.At(now.Add(time.Hour)), Payload: []byte("{}"),
		Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com"},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.tasks = append(m.tasks, id)
}

// findTasks looks whether the tasks are still there.
func (m *machine) findTasks(section string) {
	m.t.Helper()
	for _, id := range m.tasks {
		if _, err := m.queue().Status(m.t.Context(), id); err != nil {
			m.t.Fatalf("after the section %q: task %s: %v", section, id, err)
		}
	}
}

// hearTasks looks whether the reader of the page hears of all tasks.
func (m *machine) hearTasks() {
	m.t.Helper()
	silent := map[string]bool{}
	for _, id := range m.tasks[m.quiet:] {
		silent[id] = true
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	reader := exec.CommandContext(ctx, "node", m.path("opt/dashboard/reader.mjs"))
	out, err := reader.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		m.t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); len(silent) > 0 && lines.Scan(); {
		_, id, _ := strings.Cut(lines.Text(), " ")
		delete(silent, id)
	}
	cancel()
	reader.Wait() // its error is that of being ended
	if len(silent) > 0 {
		m.t.Errorf("nothing was heard of the tasks %v", silent)
	}
}
