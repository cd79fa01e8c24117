package crash

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/internal/store"
	"taskcluster/internal/testenv"
)

// TestRevokedAtADeafNode: what is taken from a client at one node is taken from
// him at the other within store.Delay, also while the connection over which that
// one hears of changes has fallen silent without ending.
func TestRevokedAtADeafNode(t *testing.T) {
	behind, err := url.Parse(testenv.Postgres(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.StartProxy(t, behind.Host)
	through := *behind
	through.Host = proxy.Addr
	d := prepare(t, binary, []string{behind.String(), through.String()})
	root, deaf := d.auth(0, credentials(d.nodes[0])), 1
	create := func(name string) client.Credentials {
		t.Helper()
		_, err := root.CreateRole(t.Context(), name, &auth.CreateRoleRequest{Description: "d", Scopes: []string{"granted:" + name}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := root.CreateClient(t.Context(), name, &auth.CreateClientRequest{Description: "d",
			Expires: client.At(time.Now().Add(time.Hour)), Scopes: []string{"assume:" + name, "auth:current-scopes"}})
		if err != nil {
			t.Fatal(err)
		}
		return client.Credentials{ClientID: name, AccessToken: got.AccessToken}
	}
	// has tells whether the deaf node still gives a client what the role grants,
	// and when it was asked.
	has := func(c client.Credentials) (bool, time.Time) {
		t.Helper()
		asked := time.Now()
		got, err := d.auth(deaf, c).CurrentScopes(t.Context())
		if err != nil && client.StatusCode(err) != 401 {
			t.Fatal(err)
		}
		return err == nil && slices.Contains(got.Scopes, "granted:"+c.ClientID), asked
	}
	ways := []struct {
		name string
		take func(ctx context.Context, id string) error
	}{
		{"deleted", func(ctx context.Context, id string) error { return root.DeleteClient(ctx, id) }},
		{"disabled", func(ctx context.Context, id string) error { _, err := root.DisableClient(ctx, id); return err }},
		{"without the role", func(ctx context.Context, id string) error { return root.DeleteRole(ctx, id) }},
	}
	var clients []client.Credentials
	for i := range 3 * len(ways) {
		c := create(fmt.Sprintf("revoked/%d", i))
		for ok := false; !ok; ok, _ = has(c) { // the node has him and his role in memory
			time.Sleep(time.Millisecond)
		}
		clients = append(clients, c)
	}
	proxy.Mute("LISTEN")
	for chunk := range slices.Chunk(clients, len(ways)) { // the first while the node does not know that it is deaf
		var taken [3]time.Time
		for i, c := range chunk {
			if ok, _ := has(c); !ok {
				t.Fatalf("%s lacks what nobody took from him", c.ClientID)
			}
			if err := ways[i].take(t.Context(), c.ClientID); err != nil {
				t.Fatal(err)
			}
			taken[i] = time.Now()
		}
		var longest [3]time.Duration
		for still := true; still; time.Sleep(10 * time.Millisecond) {
			still = false
			for i, c := range chunk {
				ok, asked := has(c)
				if !ok {
					continue
				}
				still = true
				if longest[i] = asked.Sub(taken[i]); longest[i] > store.Delay {
					t.Fatalf("%s is %s, and has what he had %v later", c.ClientID, ways[i].name, longest[i])
				}
			}
		}
		t.Logf("deleted, disabled and without the role: had it for at most %v", longest)
	}
	proxy.Mute("")
	for i := range d.nodes {
		d.nodes[i].Stop()
	}
}

// auth is a client of a node's auth service.
func (d *deployment) auth(i int, c client.Credentials) *auth.Client {
	d.t.Helper()
	a, err := auth.New(client.Config{RootURL: d.nodes[i].RootURL, Credentials: c, Retries: -1})
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}
