package app

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/client/queue"
)

// uploaded makes a task with an artifact in the deployment's store, and returns
// the task.
func uploaded(t *testing.T, a *App, content string) (taskID string) {
	t.Helper()
	q := queueAs(t, a)
	id := claimed(t, q)
	created, err := q.CreateArtifact(t.Context(), id, "0", "public/a.txt", &queue.PostArtifactRequest{
		StorageType: "s3", ContentType: "text/plain", Expires: client.At(time.Now().Add(30 * time.Minute))})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequestWithContext(t.Context(), "PUT", created.PutURL, strings.NewReader(content))
	r.Header.Set("Content-Type", "text/plain")
	if res, err := http.DefaultClient.Do(r); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	return id
}

// downloaded reads the artifact of uploaded.
func downloaded(t *testing.T, a *App, taskID string) string {
	t.Helper()
	got, err := queueAs(t, a).GetArtifact(t.Context(), taskID, "0", "public/a.txt")
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Get(got.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// makeClient makes the client person/b and returns its token.
func makeClient(t *testing.T, a *App) string {
	t.Helper()
	people, err := auth.New(rootConfig(t, a))
	if err != nil {
		t.Fatal(err)
	}
	defer people.Close()
	made, err := people.CreateClient(t.Context(), "person/b", &auth.CreateClientRequest{Expires: client.At(time.Now().Add(time.Hour)), Description: "d"})
	if err != nil {
		t.Fatal(err)
	}
	return made.AccessToken
}

// signsIn tells whether person/b may sign in with a token.
func signsIn(t *testing.T, a *App, token string) bool {
	t.Helper()
	people, err := auth.New(client.Config{RootURL: a.RootURL(), Credentials: client.Credentials{ClientID: "person/b", AccessToken: token}})
	if err != nil {
		t.Fatal(err)
	}
	defer people.Close()
	_, err = people.CurrentScopes(t.Context())
	return err == nil
}
