package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"taskcluster/internal/events"
)

// longestSocket is how long the path of a socket may be everywhere; the systems
// allow 104 bytes or more.
const longestSocket = 100

// socketPath is a path of the socket that is short enough for the system. It is
// good until release is called.
func socketPath(dir string) (path string, release func(), err error) {
	path = adminSocket(dir)
	if len(path) <= longestSocket {
		return path, func() {}, nil
	}
	if runtime.GOOS != "linux" {
		return "", nil, fmt.Errorf("the path %s is longer than the %d bytes that a socket's may have: choose a shorter data directory", path, longestSocket)
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), filepath.Base(path)), func() { f.Close() }, nil
}

// serveAdmin answers the commands of an operator on this machine until ctx ends.
func (a *App) serveAdmin(ctx context.Context) error {
	path, release, err := socketPath(*a.settings.DataDir)
	if err != nil {
		a.log.Warn("dead letters can be reached only while the server is stopped", "error", err.Error())
		<-ctx.Done()
		return nil
	}
	defer release()
	// Another server's it cannot be: this one has the database.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{Handler: (&letters{log: a.events}).handler(), ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// adminClient asks the server that has the database.
type adminClient struct{ http http.Client }

func newAdminClient(dir string) *adminClient {
	return &adminClient{http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path, release, err := socketPath(dir)
			if err != nil {
				return nil, err
			}
			defer release()
			c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
			if err != nil {
				return nil, fmt.Errorf("a server has the database, but does not answer at %s; wait until it has started, or stop it: %w", adminSocket(dir), err)
			}
			return c, nil
		},
	}}}
}

func (c *adminClient) call(ctx context.Context, method, path string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, nil)
	if err != nil {
		return err
	}
	res, err := c.http.Do(r)
	if err != nil {
		var u *url.Error // names the method and a host that is none
		if errors.As(err, &u) {
			err = u.Err
		}
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(res.Body, 10_000))
		if res.StatusCode == http.StatusNotFound && err == nil {
			return events.ErrNoDeadLetter
		}
		return errors.Join(fmt.Errorf("the server answered: %s", strings.TrimSpace(string(text))), err)
	}
	return json.NewDecoder(res.Body).Decode(answer)
}

func (c *adminClient) List(ctx context.Context, after int64, limit int) (list []DeadLetter, err error) {
	err = c.call(ctx, "GET", fmt.Sprintf("/dead-letters?after=%d&limit=%d", after, limit), &list)
	return list, err
}

func (c *adminClient) Show(ctx context.Context, id int64) (d DeadLetter, err error) {
	err = c.call(ctx, "GET", fmt.Sprintf("/dead-letters/%d", id), &d)
	return d, err
}

func (c *adminClient) Replay(ctx context.Context, id int64) error {
	return c.call(ctx, "POST", fmt.Sprintf("/dead-letters/%d/replay", id), new(any))
}

func (c *adminClient) Discard(ctx context.Context, id int64) error {
	return c.call(ctx, "DELETE", fmt.Sprintf("/dead-letters/%d", id), new(any))
}

func (c *adminClient) Close() error {
	c.http.CloseIdleConnections()
	return nil
}
