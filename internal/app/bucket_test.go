package app

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/object"
	"taskcluster/client/queue"
	"taskcluster/internal/lifecycle"
	"taskcluster/internal/slugid"
	"taskcluster/internal/testenv"
)

// uploadInline uploads some bytes through the object service.
func uploadInline(ctx context.Context, o *object.Client, name, id string, expires time.Time) error {
	_, err := o.CreateUpload(ctx, name, &object.CreateUploadRequest{
		ProjectID: "prj", UploadID: id, Expires: client.At(expires),
		ProposedUploadMethods: object.CreateUploadRequestProposedUploadMethods{
			DataInline: &object.UploadMethodDataInlineRequest{ContentType: "text/html", ObjectData: "PGI+Y29udGVudDwvYj4="}},
	})
	return err
}

// TestBucketStandsStill: while the S3 server says nothing, whoever needs it is
// told to try again, in time, and nobody else notices; afterwards all is as it was.
func TestBucketStandsStill(t *testing.T) {
	lifecycle.CheckLeaks(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	server := testenv.S3(t)
	proxy := testenv.StartProxy(t, strings.TrimPrefix(server.Endpoint, "http://"))
	behind := server
	behind.Endpoint = "http://" + proxy.Addr
	a := started(t, settings(t, t.TempDir(), s3Settings(behind)))
	once := rootConfig(t, a)
	once.Sleep = func(context.Context, time.Duration) error { return errors.New("not tried again") }
	o, err := object.New(once)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	q, err := queue.New(once)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	const uploads = 40
	expires := time.Now().Add(time.Hour)
	var ids [uploads]string
	for i := range ids {
		ids[i] = slugid.Nice().String()
	}
	proxy.Partition(true)
	var waiting sync.WaitGroup
	for _, id := range ids {
		waiting.Go(func() {
			err := uploadInline(t.Context(), o, "still/"+id, id, expires)
			if refusal, ok := errors.AsType[*client.Error](err); !ok || refusal.StatusCode < 500 {
				t.Errorf("an upload that stood still ended with %v", err)
			}
		})
	}
	within(t, "uploads wait for the server", func() bool { return proxy.Connections() > 0 })
	id := claimed(t, q)
	for range 50 {
		stateOf(t, q, newTask(t, q))
		_, err := q.CreateArtifact(t.Context(), id, "0", "public/"+slugid.Nice().String(), &queue.PostArtifactRequest{
			StorageType: "s3", ContentType: "text/plain", Expires: client.At(time.Now().Add(30 * time.Minute))})
		if err != nil {
			t.Fatal(err)
		}
	}
	waiting.Wait()
	proxy.Partition(false)
	for _, id := range ids {
		if err := uploadInline(t.Context(), o, "still/"+id, id, expires); err != nil {
			t.Fatal(err)
		}
	}
	finished(t, o, "still/"+ids[0], ids[0])
}

// TestBucketDies: a client that tries again, as all do, gets over the end and the
// new start of an S3 server.
func TestBucketDies(t *testing.T) {
	server := testenv.S3(t)
	a := started(t, settings(t, t.TempDir(), s3Settings(server)))
	cfg := rootConfig(t, a)
	tried := 0
	cfg.Sleep = func(context.Context, time.Duration) error {
		if tried++; tried == 2 {
			return server.Start()
		}
		return nil
	}
	o, err := object.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	id := slugid.Nice().String()
	server.Kill()
	if err := uploadInline(t.Context(), o, "dead/x", id, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if tried != 2 {
		t.Errorf("the call succeeded after %d failures", tried)
	}
	finished(t, o, "dead/x", id)
}

// finished finishes an upload of uploadInline, and looks at what is there.
func finished(t *testing.T, o *object.Client, name, id string) {
	t.Helper()
	if err := o.FinishUpload(t.Context(), name, &object.FinishUploadRequest{ProjectID: "prj", UploadID: id}); err != nil {
		t.Fatal(err)
	}
	yes := true
	down, err := o.StartDownload(t.Context(), name, &object.DownloadObjectRequest{AcceptDownloadMethods: object.DownloadObjectRequestAcceptDownloadMethods{Simple: &yes}})
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, down.URL, "<b>content</b>")
}
