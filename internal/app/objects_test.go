package app

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/object"
	"taskcluster/client/queue"
	"taskcluster/internal/slugid"
	"taskcluster/internal/testenv"
)

// rootConfig is the configuration of a client that may do everything.
func rootConfig(t *testing.T, a *App) client.Config {
	t.Helper()
	return client.Config{RootURL: a.RootURL(), Credentials: client.Credentials{ClientID: rootClient, AccessToken: string(a.token)}}
}

// newTask creates a task.
func newTask(t *testing.T, q *queue.Client) string {
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
	return id
}

// createTask creates a task by a client of its own.
func createTask(t *testing.T, cfg client.Config) {
	t.Helper()
	q, err := queue.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	newTask(t, q)
}

// claimed creates a task and claims it.
func claimed(t *testing.T, q *queue.Client) string {
	t.Helper()
	id := newTask(t, q)
	work, err := q.ClaimWork(t.Context(), "prov/type", &queue.ClaimWorkRequest{WorkerGroup: "wg", WorkerID: "w", Tasks: 1})
	if err != nil || len(work.Tasks) != 1 {
		t.Fatal(work, err)
	}
	return id
}

// TestObjectArtifact is the way of an object artifact through the queue and the
// object service, with the credentials that each hands out.
func TestObjectArtifact(t *testing.T) {
	for name, env := range map[string]map[string]string{"fs": nil, "s3": s3Settings(testenv.S3(t))} {
		t.Run(name, func(t *testing.T) { objectArtifact(t, started(t, settings(t, t.TempDir(), env))) })
	}
}

func s3Settings(s testenv.S3Server) map[string]string {
	return map[string]string{
		"TASKCLUSTER_ARTIFACT_STORE": "s3", "TASKCLUSTER_S3_ENDPOINT": s.Endpoint, "TASKCLUSTER_S3_BUCKET": s.Bucket, "TASKCLUSTER_S3_PATH_STYLE": "true",
		"TASKCLUSTER_S3_ACCESS_KEY_ID": s.AccessKeyID, "TASKCLUSTER_S3_SECRET_ACCESS_KEY": s.SecretAccessKey,
	}
}

func objectArtifact(t *testing.T, a *App) {
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

// TestS3Artifact is the way of an artifact of the type s3 into a bucket and out.
func TestS3Artifact(t *testing.T) {
	server := testenv.S3(t)
	a := started(t, settings(t, t.TempDir(), s3Settings(server)))
	q, err := queue.New(rootConfig(t, a))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	id := claimed(t, q)
	created, err := q.CreateArtifact(t.Context(), id, "0", "public/a.log", &queue.PostArtifactRequest{
		StorageType: "s3", ContentType: "text/plain", Expires: client.At(time.Now().Add(30 * time.Minute))})
	if err != nil || !strings.HasPrefix(created.PutURL, server.Endpoint+"/"+server.Bucket+"/"+id+"/0/public/a.log?") {
		t.Fatal(created, err)
	}
	for contentType, want := range map[string]int{"text/html": 403, "text/plain": 200} {
		r, _ := http.NewRequestWithContext(t.Context(), "PUT", created.PutURL, strings.NewReader("content"))
		r.Header.Set("Content-Type", contentType)
		res, err := http.DefaultClient.Do(r)
		if err != nil || res.StatusCode != want {
			t.Fatal(contentType, res, err)
		}
	}
	got, err := q.GetLatestArtifact(t.Context(), id, "public/a.log")
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(got.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != "content" || res.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%q %v %v", text, res.Header, err)
	}
}

// TestObjectBackends: a bucket beside the artifact store, chosen by name, whose
// keys are the names of the objects.
func TestObjectBackends(t *testing.T) {
	server := testenv.S3(t)
	env := map[string]string{
		"TASKCLUSTER_OBJECT_BACKENDS": fmt.Sprintf(`{"bucket": {"backendType": "aws", "accessKeyId": %q, "secretAccessKey": %q, "bucket": %q, "endpoint": %q, "s3ForcePathStyle": true, "signGetUrls": true}}`,
			server.AccessKeyID, server.SecretAccessKey, server.Bucket, server.Endpoint),
		"TASKCLUSTER_OBJECT_BACKEND_MAP": `[{"backendId": "bucket", "when": {"name": {"regexp": "^in-the-bucket/"}}}, {"backendId": "artifacts", "when": "all"}]`,
		"TASKCLUSTER_OBJECT_MIDDLEWARE":  `[{"middlewareType": "cdn", "regexp": "^cdn/", "baseUrl": "https://cdn.example.com/"}]`,
	}
	a := started(t, settings(t, t.TempDir(), env))
	o, err := object.New(rootConfig(t, a))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for name, prefix := range map[string]string{"in-the-bucket/x": server.Endpoint + "/" + server.Bucket + "/in-the-bucket/x?", "cdn/x": a.RootURL() + "/blob/object/cdn/x?"} {
		id := slugid.Nice().String()
		_, err := o.CreateUpload(t.Context(), name, &object.CreateUploadRequest{
			ProjectID: "prj", UploadID: id, Expires: client.At(time.Now().Add(time.Hour)),
			ProposedUploadMethods: object.CreateUploadRequestProposedUploadMethods{
				DataInline: &object.UploadMethodDataInlineRequest{ContentType: "text/html", ObjectData: "PGI+Y29udGVudDwvYj4="}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := o.FinishUpload(t.Context(), name, &object.FinishUploadRequest{ProjectID: "prj", UploadID: id}); err != nil {
			t.Fatal(err)
		}
		yes := true
		down, err := o.StartDownload(t.Context(), name, &object.DownloadObjectRequest{AcceptDownloadMethods: object.DownloadObjectRequestAcceptDownloadMethods{Simple: &yes}})
		if err != nil || !strings.HasPrefix(down.URL, prefix) {
			t.Fatal(down, err)
		}
		wantContent(t, down.URL, "<b>content</b>")
	}
	noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	signed, err := o.SignedDownloadURL(t.Context(), "cdn/x", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if res, err := noRedirect.Get(signed); err != nil || res.StatusCode != 303 || res.Header.Get("Location") != "https://cdn.example.com/cdn/x" {
		t.Error(res, err)
	}
}

func TestWrongObjectSettings(t *testing.T) {
	backend := func(s string) map[string]string { return map[string]string{"TASKCLUSTER_OBJECT_BACKENDS": s} }
	for want, env := range map[string]map[string]string{
		"not a JSON object":         backend(`[]`),
		`unknown backendType "gcs"`: backend(`{"a": {"backendType": "gcs"}}`),
		"is missing":                backend(`{"a": {"backendType": "aws", "bucket": "b", "secretAccessKey": "hunter2"}}`),
		"tags are not supported":    backend(`{"a": {"backendType": "aws", "tags": {"a": "b"}}}`),
		"choose another":            backend(`{"artifacts": {"backendType": "aws"}}`),
		`unknown field "buckets"`:   backend(`{"a": {"buckets": "b"}}`),
		"invalid backendId nowhere": {"TASKCLUSTER_OBJECT_BACKEND_MAP": `[{"backendId": "nowhere", "when": "all"}]`},
		"setting object-middleware": {"TASKCLUSTER_OBJECT_MIDDLEWARE": `[{"middlewareType": "x"}]`},
		"connection refused": {"TASKCLUSTER_ARTIFACT_STORE": "s3", "TASKCLUSTER_S3_ENDPOINT": "http://127.0.0.1:1", "TASKCLUSTER_S3_BUCKET": "b",
			"TASKCLUSTER_S3_ACCESS_KEY_ID": "a", "TASKCLUSTER_S3_SECRET_ACCESS_KEY": "hunter2"},
	} {
		if _, err := open(t, settings(t, t.TempDir(), env)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
