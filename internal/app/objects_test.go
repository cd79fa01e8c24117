package app

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/object"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
)

// rootConfig is the configuration of a client that may do everything.
func rootConfig(t *testing.T, a *App) client.Config {
	t.Helper()
	return client.Config{RootURL: a.RootURL(), Credentials: client.Credentials{ClientID: rootClient, AccessToken: string(a.token)}}
}

// claimed creates a task and claims it.
func claimed(t *testing.T, q *queue.Client) string {
	t.Helper()
	id := slugid.New().String()
	now := time.Now()
	_, err := q.CreateTask(t.Context(), id, &queue.CreateTaskRequest{
		TaskQueueID: "prov/type", ProjectID: "prj", Created: client.At(now), Deadline: client.At(now.Add(time.Hour)),
		Payload:  []byte("{}"),
		Metadata: queue.TaskMetadata{Name: "n", Description: "d", Owner: "o@example.com", Source: "https://example.com"},
	})
	if err != nil {
		t.Fatal(err)
	}
	work, err := q.ClaimWork(t.Context(), "prov/type", &queue.ClaimWorkRequest{WorkerGroup: "wg", WorkerID: "w", Tasks: 1})
	if err != nil || len(work.Tasks) != 1 {
		t.Fatal(work, err)
	}
	return id
}

// TestObjectArtifact is the way of an object artifact through the queue and the
// object service, with the credentials that each hands out.
func TestObjectArtifact(t *testing.T) {
	a := started(t, settings(t, t.TempDir(), nil))
	cfg := rootConfig(t, a)
	q, err := queue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	id := claimed(t, q)
	for _, name := range []string{"public/a.txt", `private/ "odd" \ name{}?#%2F`} {
		in := &queue.PostArtifactRequest{StorageType: "object", ContentType: "text/html", Expires: client.At(time.Now().Add(30 * time.Minute))}
		created, err := q.CreateArtifact(t.Context(), id, "0", name, in)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := q.CreateArtifact(t.Context(), id, "0", name, in); err != nil || again.UploadID != created.UploadID {
			t.Fatal(again, err)
		}
		uploader := objectClient(t, cfg, created.Credentials)
		if _, err := uploader.Object(t.Context(), created.Name); !client.IsForbidden(err) {
			t.Error(err)
		}
		content := []byte("<b>content</b>")
		begun, err := uploader.CreateUpload(t.Context(), created.Name, &object.CreateUploadRequest{
			ProjectID: created.ProjectID, UploadID: created.UploadID, Expires: created.Expires,
			ProposedUploadMethods: object.CreateUploadRequestProposedUploadMethods{
				PutURL: &object.UploadMethodPutURLRequest{ContentType: "text/html", ContentLength: len(content)},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		put := begun.UploadMethod.PutURL
		r, _ := http.NewRequestWithContext(t.Context(), "PUT", put.URL, bytes.NewReader(content))
		for k, v := range put.Headers {
			r.Header.Set(k, v)
		}
		if res, err := http.DefaultClient.Do(r); err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		finish := &queue.FinishArtifactRequest{UploadID: created.UploadID}
		if err := q.FinishArtifact(t.Context(), id, "0", name, finish); err == nil {
			t.Error("finished before the upload")
		}
		err = uploader.FinishUpload(t.Context(), created.Name, &object.FinishUploadRequest{ProjectID: created.ProjectID, UploadID: created.UploadID})
		if err != nil {
			t.Fatal(err)
		}
		if err := q.FinishArtifact(t.Context(), id, "0", name, finish); err != nil {
			t.Fatal(err)
		}
		got, err := q.GetArtifact(t.Context(), id, "0", name)
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, got.URL, string(content))
		how, err := q.LatestArtifact(t.Context(), id, name)
		if err != nil || how.StorageType != "object" {
			t.Fatal(how, err)
		}
		yes := true
		down, err := objectClient(t, cfg, how.Credentials).StartDownload(t.Context(), how.Name, &object.DownloadObjectRequest{
			AcceptDownloadMethods: object.DownloadObjectRequestAcceptDownloadMethods{GetURL: &yes}})
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, down.URL, string(content))
	}
}

func objectClient(t *testing.T, cfg client.Config, c *queue.ObjectCredentials) *object.Client {
	t.Helper()
	cfg.Credentials = client.Credentials{ClientID: c.ClientID, AccessToken: c.AccessToken, Certificate: c.Certificate}
	o, err := object.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return o
}

func wantContent(t *testing.T, url, want string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || string(text) != want {
		t.Errorf("%d %q %v", res.StatusCode, text, err)
	}
	if !strings.HasPrefix(res.Header.Get("Content-Disposition"), "attachment") {
		t.Error("a page of a task must not be shown as if it were the deployment's")
	}
}
