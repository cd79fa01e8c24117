package app

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/internal/hawk"
)

// A client that is disabled while it listens is told so with the next ping, and
// cut off. Its request was signed long before.
func TestDisabledListener(t *testing.T) {
	a := started(t, settings(t, t.TempDir(), nil))
	clients, err := auth.New(rootConfig(t, a))
	if err != nil {
		t.Fatal(err)
	}
	defer clients.Close()
	const exchange = "exchange/taskcluster-auth/v1/client-created"
	made, err := clients.CreateClient(t.Context(), "person/listener", &auth.CreateClientRequest{
		Expires: client.At(time.Now().Add(time.Hour)), Description: "d", Scopes: []string{"events:listen:" + exchange},
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := hawk.Credentials{ClientID: "person/listener", AccessToken: made.AccessToken}.SignURL(
		a.RootURL()+"/api/events/v1/connect/?bindings="+url.QueryEscape(`{"bindings":[{"exchange":"`+exchange+`","routingKeyPattern":"#"}]}`), time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, signed, nil)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	lines := bufio.NewScanner(stream.Body)
	heard := func(what string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), what) {
				return
			}
		}
		t.Fatalf("%s: the stream ended before %q came: %v", stream.Status, what, lines.Err())
	}
	heard("event: ready")
	makeClient(t, a)
	heard(`"clientId":"person/b"`)
	heard("event: ping") // he may listen still
	if _, err := clients.DisableClient(t.Context(), "person/listener"); err != nil {
		t.Fatal(err)
	}
	heard("Client with clientId 'person/listener' is disabled")
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream does not end: %v", err)
	}
}
