package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"taskcluster/internal/hawk"
)

// starts is how often the time of an empty start is measured.
const starts = 7

// Self starts deployments of its own with the program at binary, each in a
// directory under dir that goes away, measures how long an empty one takes to
// answer, and measures the last one as Run does.
func Self(ctx context.Context, binary, dir string, o Options) (*Report, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	times := 1
	if o.measures(StartPart) {
		o.Progress("empty start")
		times = starts
	}
	var took []time.Duration
	for {
		s, err := start(ctx, binary, dir)
		if err != nil {
			return nil, err
		}
		took = append(took, s.took)
		if len(took) < times {
			s.stop()
			continue
		}
		defer s.stop()
		o.RootURL, o.Credentials = s.rootURL, s.credentials
		rep, err := Run(ctx, o)
		if err != nil {
			return nil, err
		}
		if times == starts {
			slices.Sort(took)
			rep.StartMillis = round(float64(took[len(took)/2].Microseconds())/1000, 1)
		}
		return rep, nil
	}
}

type deployment struct {
	rootURL     string
	credentials hawk.Credentials
	took        time.Duration // from the process's start to the first 200
	stop        func()
}

// start runs "serve" on a free port and an empty directory.
func start(ctx context.Context, binary, dir string) (*deployment, error) {
	data, err := os.MkdirTemp(dir, "taskcluster-bench-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "serve", "--data-dir", data, "--listen", addr, "--root-url", "http://"+addr, "--log-level", "warn")
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d := &deployment{rootURL: "http://" + addr}
	d.stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		os.RemoveAll(data)
	}
	for {
		resp, err := http.Get(d.rootURL + "/api/queue/v1/ping")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				break
			}
		}
		if ctx.Err() != nil || time.Since(began) > 30*time.Second {
			d.stop()
			return nil, errors.Join(ctx.Err(), fmt.Errorf("%s does not answer", d.rootURL))
		}
		time.Sleep(time.Millisecond)
	}
	d.took = time.Since(began)
	text, err := os.ReadFile(filepath.Join(data, "root.env"))
	if err != nil {
		d.stop()
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		switch name {
		case "TASKCLUSTER_CLIENT_ID":
			d.credentials.ClientID = value
		case "TASKCLUSTER_ACCESS_TOKEN":
			d.credentials.AccessToken = value
		}
	}
	return d, nil
}

// freeAddress finds a port that is free now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
