//go:build unix

package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// rabbitmqServer starts the broker in the foreground.
const rabbitmqServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// RabbitMQ starts a broker for this test and stops it at its end. It takes
// some seconds, so that a package should start one for all its tests. A missing
// installation fails the test.
func RabbitMQ(t testing.TB) *RabbitMQServer {
	t.Helper()
	s, err := StartRabbitMQ()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// RabbitMQServer is a broker that runs, with its management plugin. All its
// ports are free ones of 127.0.0.1, its data in a temporary directory, and its
// name, cookie and port mapper its own, so that it knows no other broker.
type RabbitMQServer struct {
	URL        string // amqp://guest:guest@127.0.0.1:PORT/
	Addr       string // 127.0.0.1:PORT, of AMQP
	TLSAddr    string // 127.0.0.1:PORT, of AMQP in TLS
	CA         string // the file with the authority of its certificate, which nobody else knows
	Management string // http://127.0.0.1:PORT, where guest, guest is the administrator

	dir    string
	dist   int // ports
	epmd   int
	attr   *syscall.SysProcAttr
	mapper *exec.Cmd // epmd, which the broker would otherwise leave behind
	server *exec.Cmd
}

// StartRabbitMQ starts an empty broker. The caller stops it.
func StartRabbitMQ() (_ *RabbitMQServer, err error) {
	if _, err := os.Stat(rabbitmqServer); err != nil {
		return nil, fmt.Errorf("this test needs RabbitMQ, which is not installed: `make test` installs it (%w)", err)
	}
	s := &RabbitMQServer{}
	var ports [5]int
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	s.dist, s.epmd = ports[2], ports[3]
	s.Addr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	s.URL = "amqp://guest:guest@" + s.Addr + "/"
	s.TLSAddr = fmt.Sprintf("127.0.0.1:%d", ports[4])
	s.Management = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	if s.dir, err = os.MkdirTemp("", "taskcluster-rabbitmq-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	s.CA = filepath.Join(s.dir, "ca.pem")
	ca, cert, key, err := Certificate()
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{
		"rabbitmq.conf": fmt.Sprintf("listeners.tcp.1 = %s\nlisteners.ssl.1 = %s\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %d\n"+
			"disk_free_limit.absolute = 1MB\ncollect_statistics_interval = 500\n"+
			"ssl_options.cacertfile = %s\nssl_options.certfile = %[5]s/cert.pem\nssl_options.keyfile = %[5]s/key.pem\nssl_options.verify = verify_none\n",
			s.Addr, s.TLSAddr, ports[1], s.CA, s.dir),
		"ca.pem":          ca,
		"cert.pem":        cert,
		"key.pem":         key,
		"enabled_plugins": "[rabbitmq_management].\n",
		"env.conf":        "",
	} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if s.attr, err = asUser("rabbitmq", s.dir); err != nil {
		return nil, err
	}
	return s, s.Start()
}

// Env is the environment in which the broker's own programs, such as
// rabbitmqctl, find this one.
func (s *RabbitMQServer) Env() []string {
	return []string{
		"PATH=/usr/lib/rabbitmq/bin:" + os.Getenv("PATH"), "HOME=" + s.dir, "LANG=C.UTF-8",
		"ERL_EPMD_PORT=" + strconv.Itoa(s.epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=test" + strconv.Itoa(s.dist) + "@localhost", "RABBITMQ_CONF_ENV_FILE=" + filepath.Join(s.dir, "env.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + filepath.Join(s.dir, "enabled_plugins"),
	}
}

// Control runs rabbitmqctl.
func (s *RabbitMQServer) Control(args ...string) error {
	cmd := exec.Command("/usr/lib/rabbitmq/bin/rabbitmqctl", args...)
	cmd.Env = s.Env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl %s: %w\n%s", args[0], err, out)
	}
	return nil
}

// ManagementURL is Management with the user and the password in it.
func (s *RabbitMQServer) ManagementURL() string {
	return strings.Replace(s.Management, "http://", "http://guest:guest@", 1)
}

// Start starts a broker that was stopped or killed, on the same ports and data.
func (s *RabbitMQServer) Start() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	in := func(name string) string { return filepath.Join(s.dir, name) }
	env := append(s.Env(), "RABBITMQ_DIST_PORT="+strconv.Itoa(s.dist),
		"RABBITMQ_CONFIG_FILE="+in("rabbitmq.conf"),
		"RABBITMQ_MNESIA_BASE="+in("data"), "RABBITMQ_LOG_BASE="+in("logs"), "RABBITMQ_PID_FILE="+in("pid"),
		// Schedulers that spin would take the processor from the test.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
	)
	run := func(program string, args ...string) (*exec.Cmd, error) {
		cmd := exec.Command(program, args...)
		attr := *s.attr
		attr.Setpgid = true // it has children
		cmd.Dir, cmd.Env, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = s.dir, env, &attr, log, log
		return cmd, cmd.Start()
	}
	if s.mapper == nil {
		mapper, err := run("epmd", "-port", strconv.Itoa(s.epmd), "-address", "127.0.0.1")
		if err != nil {
			return err
		}
		s.mapper = mapper
	}
	if s.server, err = run(rabbitmqServer); err != nil {
		s.server = nil
		return err
	}
	if err := s.waitReady(); err != nil {
		text, _ := os.ReadFile(log.Name())
		return fmt.Errorf("RabbitMQ did not start: %w\n%s", err, text)
	}
	return nil
}

// Kill ends the broker at once, as a crash does.
func (s *RabbitMQServer) Kill() error { return s.end(syscall.SIGKILL) }

// Shutdown ends the broker in order; Start brings it back.
func (s *RabbitMQServer) Shutdown() error { return s.end(syscall.SIGTERM) }

// Stop ends the broker and removes its data.
func (s *RabbitMQServer) Stop() error {
	err := s.end(syscall.SIGTERM)
	if s.mapper != nil {
		syscall.Kill(-s.mapper.Process.Pid, syscall.SIGKILL)
		s.mapper.Wait()
		s.mapper = nil
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func (s *RabbitMQServer) end(signal syscall.Signal) error {
	if s.server == nil {
		return nil
	}
	server := s.server
	s.server = nil
	ended := make(chan struct{})
	go func() {
		server.Wait() // its error is that of the signal
		close(ended)
	}()
	syscall.Kill(-server.Process.Pid, signal)
	defer syscall.Kill(-server.Process.Pid, syscall.SIGKILL) // children that are left
	select {
	case <-ended:
		return nil
	case <-time.After(30 * time.Second):
		syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
		<-ended
		return errors.New("RabbitMQ did not stop in time and was killed")
	}
}

// waitReady tries until both protocols are answered.
func (s *RabbitMQServer) waitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.ready(ctx)
		if err == nil {
			return nil
		}
		var status syscall.WaitStatus
		if pid, _ := syscall.Wait4(s.server.Process.Pid, &status, syscall.WNOHANG, nil); pid > 0 {
			s.server = nil
			return fmt.Errorf("the broker ended with status %d: %w", status.ExitStatus(), err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (s *RabbitMQServer) ready(ctx context.Context) error {
	conn, err := amqp.Dial(s.URL)
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "GET", s.Management+"/api/overview", nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth("guest", "guest")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New("the management plugin answers " + strings.TrimSpace(resp.Status))
	}
	return nil
}

// asUser gives dir and what is in it to the user, to whom a server belongs
// that must not run as root, when this process is root's.
func asUser(name, dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("the server does not run as root, and there is no user %s to run it as: %w", name, err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, err
}
