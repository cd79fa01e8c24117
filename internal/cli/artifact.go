package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"taskcluster/client/queue"
)

// newArtifactClient returns the client that fetches artifact bytes. It has no
// time-out for the body: a live log lasts as long as its task.
func newArtifactClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		ForceAttemptHTTP2:     true,
	}}
}

// errArtifact says why an artifact has no content.
type errArtifact struct{ name, reason, message string }

func (e *errArtifact) Error() string {
	return fmt.Sprintf("artifact %s could not be kept: %s (%s)", e.name, printable(e.message), e.reason)
}

// latestRun stands for a task's latest run.
const latestRun = -1

// locate asks the queue for an artifact's storage URL, which needs no
// credentials. Links are followed by the queue.
func locate(ctx context.Context, q *queue.Client, taskID string, runID int, name string) (string, error) {
	where, err := content(ctx, q, taskID, runID, name)
	if err != nil {
		return "", err
	}
	return where.URL, nil
}

// content asks the queue where an artifact's bytes are.
func content(ctx context.Context, q *queue.Client, taskID string, runID int, name string) (*queue.ArtifactContentResponse, error) {
	var (
		where *queue.ArtifactContentResponse
		err   error
	)
	if runID == latestRun {
		where, err = q.LatestArtifact(ctx, taskID, name)
	} else {
		where, err = q.Artifact(ctx, taskID, strconv.Itoa(runID), name)
	}
	switch {
	case err != nil:
		return nil, err
	case where.StorageType == "":
		return nil, errUnexpected
	case where.StorageType == "error":
		return nil, &errArtifact{name, where.Reason, where.Message}
	case where.URL == "":
		return nil, fmt.Errorf("artifact %s is of storage type %q, which this version cannot fetch", name, where.StorageType)
	}
	return where, nil
}

// errUnreachable marks trouble on the way to the bytes, which may pass.
var errUnreachable = errors.New("cannot fetch the artifact")

// open begins to read the bytes at a storage URL; gzip is undone.
func open(ctx context.Context, c *http.Client, url string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: its URL is not valid", errUnreachable)
	}
	reply, err := c.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", errUnreachable, withoutURL(err))
	}
	if reply.StatusCode != http.StatusOK {
		reply.Body.Close()
		return nil, fmt.Errorf("%w: the storage answered %s", errUnreachable, reply.Status)
	}
	return reply.Body, nil
}

// withoutURL takes the URL out of an error: it is signed, and so a secret.
func withoutURL(err error) error {
	type unwrapper interface{ Unwrap() error }
	for {
		u, ok := err.(unwrapper)
		if !ok {
			return err
		}
		if err = u.Unwrap(); err == nil {
			return errors.New("no connection")
		}
		if _, ok := err.(*net.OpError); ok {
			return err
		}
	}
}
