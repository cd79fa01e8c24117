package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"taskcluster/internal/hawk"
)

// starts is how often the time of an empty start is measured.
const starts = 7

// Self starts deployments of its own with the program at binary, each in a
// directory under dir that goes away, measures how long an empty one takes to
// answer, and measures the last one as Run does. With Options.PostgresURL each
// has a schema of that database, which goes away too.
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
		s, err := deploy(ctx, binary, dir, o)
		if err != nil {
			return nil, err
		}
		took = append(took, s.took)
		if len(took) < times {
			s.end()
			continue
		}
		defer s.end()
		o.RootURL, o.Credentials, o.addresses = s.rootURL, s.credentials, s.addresses
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
	address     string
	data        string
	addresses   []string      // of the nodes, when there are several
	took        time.Duration // from the first process's start to its first 200
	end         func()
}

// deploy starts as many nodes as there shall be.
func deploy(ctx context.Context, binary, dir string, o Options) (_ *deployment, err error) {
	if o.PostgresURL == "" {
		return start(ctx, binary, dir, "", nil)
	}
	database, drop, err := schema(ctx, o.PostgresURL)
	if err != nil {
		return nil, err
	}
	first, err := start(ctx, binary, dir, database, nil)
	if err != nil {
		return nil, errors.Join(err, drop())
	}
	nodes := []*deployment{first}
	first.addresses = nil
	stop := func() {
		for _, node := range nodes {
			node.end()
		}
		if err := drop(); err != nil {
			fmt.Fprintln(os.Stderr, "the schema of the measurement could not be dropped:", err)
		}
	}
	for len(nodes) < o.Nodes {
		node, err := start(ctx, binary, dir, database, first)
		if err != nil {
			stop()
			return nil, err
		}
		nodes = append(nodes, node)
	}
	if len(nodes) > 1 {
		for _, node := range nodes {
			first.addresses = append(first.addresses, node.address)
		}
	}
	all := *first
	all.end = stop
	return &all, nil
}

// schema makes a schema for the time being, and returns the URL that leads there.
func schema(ctx context.Context, database string) (in string, drop func() error, err error) {
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		return "", nil, err
	}
	defer conn.Close(ctx)
	name := "taskcluster_bench_" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(ctx, "CREATE SCHEMA "+name); err != nil {
		return "", nil, err
	}
	drop = func() error {
		ctx := context.WithoutCancel(ctx)
		conn, err := pgx.Connect(ctx, database)
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "DROP SCHEMA "+name+" CASCADE")
		return err
	}
	u, err := url.Parse(database)
	if err != nil || u.Scheme == "" {
		return database + " search_path=" + name, drop, nil // keywords and values
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String(), drop, nil
}

// start runs "serve" on a free port and an empty directory, or, beside a first
// node, with its root URL, keys and artifacts. Without a database it uses a file.
func start(ctx context.Context, binary, dir, database string, first *deployment) (*deployment, error) {
	data, err := os.MkdirTemp(dir, "taskcluster-bench-")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	d := &deployment{rootURL: "http://" + addr, address: addr, data: data}
	root, env := d.rootURL, os.Environ()
	if database != "" {
		env = append(env, "TASKCLUSTER_POSTGRES_URL="+database)
	}
	if first != nil {
		root = first.rootURL
		env = append(env, "TASKCLUSTER_KEYS=file:"+filepath.Join(first.data, "keys"))
		if err := os.Symlink(filepath.Join(first.data, "artifacts"), filepath.Join(data, "artifacts")); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, binary, "serve", "--data-dir", data, "--listen", addr, "--root-url", root, "--log-level", "warn")
	cmd.Stderr, cmd.Env = os.Stderr, env
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	d.end = func() {
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
			d.end()
			return nil, errors.Join(ctx.Err(), fmt.Errorf("%s does not answer", d.rootURL))
		}
		time.Sleep(time.Millisecond)
	}
	d.took = time.Since(began)
	text, err := os.ReadFile(filepath.Join(data, "root.env"))
	if err != nil {
		d.end()
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
