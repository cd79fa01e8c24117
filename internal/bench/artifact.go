package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"taskcluster/internal/hawk"
)

// artifact uploads an artifact again and again for the part's duration, then
// downloads it again and again.
func (b *bench) artifact(ctx context.Context) (*Artifact, error) {
	c, err := dial(b.root, "", b.Credentials) // the other nodes have directories of their own
	if err != nil {
		return nil, err
	}
	defer c.c.Close()
	if err := b.createOne(c, b.definition()); err != nil {
		return nil, err
	}
	tasks, err := b.claimWork(c, "w", 1)
	if err != nil || len(tasks) != 1 {
		return nil, errors.Join(err, fmt.Errorf("%d tasks were claimed where one waits", len(tasks)))
	}
	t := &tasks[0]
	path := fmt.Sprintf("/api/queue/v1/task/%s/runs/%d/artifacts/public/bench.bin", t.Status.TaskID, t.RunID)
	own := hawk.Credentials{ClientID: t.Credentials.ClientID, AccessToken: t.Credentials.AccessToken, Certificate: t.Credentials.Certificate}
	expires := time.Now().UTC().Add(time.Hour).Format("2006-01-02T15:04:05.000Z")
	status, body, err := c.do(own, http.MethodPost, path, fmt.Appendf(nil,
		`{"storageType":"s3","expires":%q,"contentType":"application/octet-stream"}`, expires))
	if err := expect(status, body, err); err != nil {
		return nil, err
	}
	var made struct{ PutURL string }
	if err := json.Unmarshal(body, &made); err != nil {
		return nil, err
	}
	a := &Artifact{Bytes: b.Artifact}
	if a.Upload, err = b.transfer(ctx, func() error { return b.upload(made.PutURL) }); err != nil {
		return nil, fmt.Errorf("upload: %w", err)
	}
	status, body, err = c.do(c.credentials, http.MethodGet, path, nil)
	if err != nil || status != http.StatusSeeOther {
		return nil, errors.Join(err, fmt.Errorf("getArtifact answered %d: %.300s", status, body))
	}
	var found struct{ URL string }
	if err := json.Unmarshal(body, &found); err != nil {
		return nil, err
	}
	if a.Download, err = b.transfer(ctx, func() error { return b.download(found.URL) }); err != nil {
		return nil, fmt.Errorf("download: %w", err)
	}
	return a, b.complete(c, t)
}

// transfer repeats once for the part's duration and watches the server.
func (b *bench) transfer(ctx context.Context, once func() error) (t Transfer, err error) {
	before, err := b.figures(ctx)
	if err != nil {
		return t, err
	}
	watched, stop := context.WithCancel(ctx)
	var peak atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-watched.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
			if f, err := b.figures(watched); err == nil {
				peak.Store(max(peak.Load(), int64(f[resident])))
			}
		}
	}()
	began := time.Now()
	for (t.Times == 0 || time.Since(began) < b.Duration) && ctx.Err() == nil && err == nil {
		err = once()
		t.Times++
	}
	took := time.Since(began)
	stop()
	<-done
	if err = errors.Join(err, ctx.Err()); err != nil {
		return t, err
	}
	after, err := b.figures(ctx)
	if err != nil {
		return t, err
	}
	megabytes := float64(t.Times) * float64(b.Artifact) / 1e6
	t.MBPerSecond = round(megabytes/took.Seconds(), 0)
	t.ServerCPU = round((after["process_cpu_seconds_total"]-before["process_cpu_seconds_total"])*1000/megabytes, 2)
	t.Growth = max(0, max(peak.Load(), int64(after[resident]))-int64(before[resident]))
	return t, nil
}

const block = 256 << 10

// upload and download write and read the connection themselves, so that the
// generator takes little of the processor from the server.
func (b *bench) upload(rawURL string) error {
	u, c, err := open(rawURL)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", u.RequestURI(), u.Host, b.Artifact); err != nil {
		return err
	}
	data := make([]byte, block)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for left := b.Artifact; left > 0; {
		n, err := c.Write(data[:min(left, block)])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		return fmt.Errorf("answered %d: %s", resp.StatusCode, text)
	}
	return nil
}

func (b *bench) download(rawURL string) error {
	u, c, err := open(rawURL)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host); err != nil {
		return err
	}
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.ContentLength != b.Artifact {
		return fmt.Errorf("answered %d with %d bytes", resp.StatusCode, resp.ContentLength)
	}
	left := b.Artifact - int64(r.Buffered())
	for data := make([]byte, block); left > 0; {
		n, err := c.Read(data)
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// open connects to where a URL leads.
func open(rawURL string) (*url.URL, net.Conn, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, nil, err
	}
	if u.Scheme != "http" {
		return nil, nil, fmt.Errorf("the load generator speaks plain http, not %s: is the deployment's store elsewhere?", u.Scheme)
	}
	c, err := net.DialTimeout("tcp", u.Host, 5*time.Second)
	if err != nil {
		return nil, nil, err
	}
	c.SetDeadline(time.Now().Add(10 * time.Minute))
	return u, c, nil
}
