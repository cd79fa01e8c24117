package client_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/client/queue"
)

// config reaches h in this process.
func config(h http.HandlerFunc) client.Config {
	return client.Config{
		RootURL:     "https://tc.example",
		Credentials: client.Credentials{ClientID: "me", AccessToken: "hushhush"},
		Transport:   client.InProcess(h),
	}
}

func TestGeneratedNilListIsEmpty(t *testing.T) {
	var body string
	a, err := auth.New(config(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		body = string(text)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"scopes":["x"]}`)
	}))
	if err != nil {
		t.Fatal(err)
	}
	in := &auth.Scopeset{}
	out, err := a.ExpandScopes(t.Context(), in)
	if err != nil || body != `{"scopes":[]}` || len(out.Scopes) != 1 || in.Scopes != nil {
		t.Errorf("%s %v %v %v", body, out, in, err)
	}
}

func TestGeneratedAbsence(t *testing.T) {
	var body string
	a, err := auth.New(config(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		body = string(text)
		w.WriteHeader(204)
	}))
	if err != nil {
		t.Fatal(err)
	}
	expires := client.At(time.Unix(0, 0))
	for want, in := range map[string]*auth.CreateClientRequest{
		`{"description":"","expires":"1970-01-01T00:00:00.000Z"}`:             {Expires: expires},
		`{"description":"","expires":"1970-01-01T00:00:00.000Z","scopes":[]}`: {Expires: expires, Scopes: []string{}},
	} {
		if _, err := a.UpdateClient(t.Context(), "x", in); err != nil || body != want {
			t.Errorf("sent %s, want %s, %v", body, want, err)
		}
	}
}

func TestGeneratedPages(t *testing.T) {
	q, err := queue.New(config(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/api/queue/v1/task-group/G/list" || r.URL.Query().Get("limit") != "2" {
			t.Errorf("%s", r.RequestURI)
		}
		switch r.URL.Query().Get("continuationToken") {
		case "":
			io.WriteString(w, `{"taskGroupId":"1","continuationToken":"a b&c"}`)
		case "a b&c":
			io.WriteString(w, `{"taskGroupId":"2"}`)
		default:
			t.Errorf("%s", r.RequestURI)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	pages := q.ListTaskGroupPages(t.Context(), "G", queue.ListTaskGroupQuery{Limit: "2"})
	for range 2 { // a sequence may be gone through again
		var got []string
		for page, err := range pages {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page.TaskGroupID)
		}
		if fmt.Sprint(got) != "[1 2]" {
			t.Error(got)
		}
	}
}

func TestGeneratedURLs(t *testing.T) {
	q, err := queue.New(config(nil))
	if err != nil {
		t.Fatal(err)
	}
	const want = "https://tc.example/api/queue/v1/task/T/runs/0/artifacts/public%2Fa%20b"
	if got := q.GetArtifactURL("T", "0", "public/a b"); got != want {
		t.Error(got)
	}
	signed, err := q.SignedGetArtifactURL(t.Context(), "T", "0", "public/a b", time.Minute)
	if err != nil || !strings.HasPrefix(signed, want+"?bewit=") {
		t.Error(signed, err)
	}
	if u, err := url.Parse(signed); err != nil || len(u.Query()["bewit"]) != 1 {
		t.Error(u, err)
	}
}

func TestGeneratedSecretsAreHidden(t *testing.T) {
	claim := queue.ClaimWorkResponse{Tasks: []queue.ClaimWorkResponseTask{{
		Credentials: queue.TaskCredentials{ClientID: "task-client/x", AccessToken: "hushhush", Certificate: "hushhush"},
	}}}
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("claimed", "credentials", claim.Tasks[0].Credentials)
	for _, text := range []string{fmt.Sprint(claim), fmt.Sprintf("%+v %#v", claim, claim), logged.String()} {
		if strings.Contains(text, "hush") || !strings.Contains(text, "redacted") {
			t.Error(text)
		}
	}
}
