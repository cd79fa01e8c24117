// Package upload brings a file to the queue as an artifact: createArtifact,
// then PUT to the URL that it answers with. What fails for reasons that may
// pass is tried again, with a new URL and the credentials of that moment.
package upload

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"taskcluster/client"
	"taskcluster/client/queue"
	"taskcluster/worker/task"
)

// Uploader uploads files. It is safe for concurrent use.
type Uploader struct {
	Transport http.RoundTripper
	// Pause is the time before the second try; it doubles with each. Default: 1 s.
	Pause time.Duration
}

// File is what to upload, and as what.
type File struct {
	Name        string // of the artifact
	Open        func() (*os.File, error)
	ContentType string
	Gzip        bool // compress it
	Expires     client.Time
}

const (
	tries   = 6
	onePut  = 45 * time.Minute // as long as the queue's URLs are valid
	excerpt = 500              // bytes of a refusal that go into an error
)

// Upload uploads a file as an artifact of the run. The error is a
// *task.Failure, or that of the context.
func (u *Uploader) Upload(ctx context.Context, run *task.Run, f File) error {
	body, size, err := f.prepare(run)
	if errors.Is(err, syscall.ENOSPC) {
		f.Gzip = false // no room for a compressed copy
		body, size, err = f.prepare(run)
	}
	if err != nil {
		return task.Fail(task.Failed, fmt.Errorf("artifact %q could not be read: %w", f.Name, err))
	}
	defer body.Close()
	length := int(size)
	request := &queue.PostArtifactRequest{StorageType: "s3", ContentType: f.ContentType, ContentLength: &length, Expires: f.Expires}
	pause := u.Pause
	if pause <= 0 {
		pause = time.Second
	}
	for try := 1; ; try++ {
		answer, err := run.CreateArtifact(ctx, f.Name, request)
		if err != nil {
			return Refused(ctx, f.Name, err)
		}
		again, err := u.put(ctx, answer.PutURL, body, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = fmt.Errorf("artifact %q could not be uploaded: %w", f.Name, err)
		if !again {
			return task.Fail(task.InternalError, err)
		}
		if try == tries {
			return task.Fail(task.ResourceUnavailable, err)
		}
		run.Log.Warnf("%v; trying again", err)
		select {
		case <-time.After(pause/2 + rand.N(pause)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause *= 2
	}
}

// Refused turns an error of createArtifact into what it means for the run.
func Refused(ctx context.Context, name string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = fmt.Errorf("artifact %q could not be created: %w", name, err)
	switch status := client.StatusCode(err); {
	case status == http.StatusConflict, status == http.StatusBadRequest:
		return task.Fail(task.MalformedPayload, err)
	case status == 0, status >= 500, status == http.StatusTooManyRequests:
		return task.Fail(task.ResourceUnavailable, err)
	}
	return task.Fail(task.InternalError, err)
}

// prepare opens what is to be sent: the file, or a compressed copy of it,
// since storages want to know the length beforehand. Size is that of the file.
func (f *File) prepare(run *task.Run) (body *os.File, size int64, err error) {
	in, err := f.Open()
	if err != nil {
		return nil, 0, err
	}
	st, err := in.Stat()
	if err != nil {
		in.Close()
		return nil, 0, err
	}
	if !f.Gzip {
		return in, st.Size(), nil
	}
	defer in.Close()
	tmp, err := os.CreateTemp(filepath.Dir(run.LogPath), "upload-*")
	if err != nil {
		return nil, 0, err
	}
	os.Remove(tmp.Name()) // it lives until it is closed
	z := gzip.NewWriter(tmp)
	n, err := io.Copy(z, in)
	if err = errors.Join(err, z.Close()); err != nil {
		tmp.Close()
		return nil, 0, err
	}
	return tmp, n, nil
}

// put sends the body once. Again says whether another try may help.
func (u *Uploader) put(ctx context.Context, url string, body *os.File, f File) (again bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, onePut)
	defer cancel()
	size, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, io.NewSectionReader(body, 0, size))
	if err != nil {
		return false, errors.New("the queue gave no valid URL to upload to")
	}
	request.ContentLength = size
	if size == 0 {
		request.Body = http.NoBody // otherwise it would be sent without a length
	}
	request.Header.Set("Content-Type", f.ContentType)
	if f.Gzip {
		request.Header.Set("Content-Encoding", "gzip")
	}
	answer, err := u.Transport.RoundTrip(request)
	if err != nil {
		return true, hideURL(err, url)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, excerpt))
	if answer.StatusCode/100 == 2 {
		return false, nil
	}
	again = answer.StatusCode >= 500 || answer.StatusCode == http.StatusForbidden || // the URL may have expired
		answer.StatusCode == http.StatusRequestTimeout || answer.StatusCode == http.StatusTooManyRequests
	return again, fmt.Errorf("the storage answered %s: %s", answer.Status, strings.TrimSpace(string(text)))
}

// hideURL removes a signed URL from the text of an error.
func hideURL(err error, url string) error {
	return errors.New(strings.ReplaceAll(err.Error(), url, "(signed URL)"))
}
