package app

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/client/queue"
	"taskcluster/internal/obs"
	"taskcluster/internal/testenv"
)

// TestLogs: a call's line carries the ids that its answer has, and no line has
// a secret, whatever the calls were about.
func TestLogs(t *testing.T) {
	var out testenv.Buffer
	log, err := obs.NewLogger(&out, "json", "debug")
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.Repeat("websocktunnel-secret-", 3)
	a, err := New(t.Context(), settings(t, t.TempDir(), map[string]string{"TASKCLUSTER_WEBSOCKTUNNEL_SECRET": secret}), log)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := rootConfig(t, a)
	people, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer people.Close()
	secrets := map[string]string{"root's token": string(a.token), "a setting": secret}
	made, err := people.CreateClient(t.Context(), "person/a", &auth.CreateClientRequest{Expires: client.At(time.Now().Add(time.Hour)), Description: "d"})
	if err != nil {
		t.Fatal(err)
	}
	secrets["a client's token"] = made.AccessToken
	reset, err := people.ResetAccessToken(t.Context(), "person/a")
	if err != nil {
		t.Fatal(err)
	}
	secrets["a client's new token"] = reset.AccessToken
	if _, err := people.WebsocktunnelToken(t.Context(), "a", "b"); err != nil {
		t.Fatal(err)
	}
	q := queueAs(t, a)
	id := claimed(t, q)
	created, err := q.CreateArtifact(t.Context(), id, "0", "private/a.txt", &queue.PostArtifactRequest{
		StorageType: "s3", ContentType: "text/plain", Expires: client.At(time.Now().Add(30 * time.Minute))})
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(created.PutURL, "?")
	secrets["the signature of an upload"] = query
	put, _ := http.NewRequestWithContext(t.Context(), "PUT", created.PutURL, strings.NewReader("content"))
	put.Header.Set("Content-Type", "text/html") // refused, and logged perhaps
	if res, err := http.DefaultClient.Do(put); err != nil || res.StatusCode < 400 {
		t.Fatal(res, err)
	}

	// Calls that fail, by hand: the answers' headers are what counts.
	type ids struct{ request, trace string }
	var want []ids
	for path, header := range map[string]http.Header{
		"/api/queue/v1/task/nonsense":                              {},
		"/api/auth/v1/clients/nobody":                              {"X-Taskcluster-Trace-Id": {"chosen-by-the-caller"}},
		"/api/auth/v1/clients/x?bewit=aWRcMTIzXG1hYy1vZi1ib3Jyb3c": {},
		"/api/queue/v1/task/" + id + "/runs/0/artifacts/private/a": {"Authorization": {`Hawk id="person/a", ts="1", nonce="n", mac="c2VjcmV0LW1hYw=="`}},
	} {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", a.RootURL()+path, nil)
		r.Header = header
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode < 400 {
			t.Fatal(path, res.Status)
		}
		want = append(want, ids{res.Header.Get("X-For-Request-Id"), res.Header.Get("X-For-Trace-Id")})
	}
	secrets["a bewit"] = "aWRcMTIzXG1hYy1vZi1ib3Jyb3c"
	secrets["a signature"] = "c2VjcmV0LW1hYw"
	stop(t, a)
	text := out.String()
	seen := map[ids]bool{}
	for line := range strings.Lines(text) {
		var l struct{ Msg, RequestID, TraceID string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if l.Msg == "monitor.apiMethod" {
			seen[ids{l.RequestID, l.TraceID}] = true
		}
	}
	for _, w := range want {
		if w.request == "" || !seen[w] {
			t.Errorf("no line has the ids %+v of an answer", w)
		}
	}
	if !seen[want[0]] || !strings.Contains(text, "chosen-by-the-caller") {
		t.Error("a caller's own trace id is not logged")
	}
	keys, err := os.ReadFile(*a.settings.DataDir + "/keys")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(keys)) {
		if len(word) >= 20 {
			secrets["a key"] = word
		}
	}
	for what, s := range secrets {
		if s == "" || strings.Contains(text, s) {
			t.Errorf("the log has %s (%d bytes)", what, len(s))
		}
	}
}
