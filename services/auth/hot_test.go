package auth

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/hawk"
)

// hotRequests are the requests that services get most.
func hotRequests(t testing.TB) (*deployment, map[string]api.AuthRequest) {
	d := deploy(t)
	plain := d.client("worker", "queue:claim-work:pool/*", "assume:worker-pool:pool")
	queue := hawk.Credentials{ClientID: "static/taskcluster/queue", AccessToken: testToken("queue")}
	task := d.temporary(queue, "task-client/fN1SbArXTPSVFNUvaOlinQ/0/on/wg/worker/until/1525136434",
		"queue:reclaim-task:fN1SbArXTPSVFNUvaOlinQ/0", "queue:resolve-task:fN1SbArXTPSVFNUvaOlinQ/0",
		"queue:create-artifact:fN1SbArXTPSVFNUvaOlinQ/0", "assume:repo:github.com/x/y:branch:main")
	return d, map[string]api.AuthRequest{"plain": d.signedRequest(plain), "task": d.signedRequest(task), "nobody": {Method: "GET", Resource: someResource}}
}

// TestAuthenticateAllocations keeps the path of every request cheap.
func TestAuthenticateAllocations(t *testing.T) {
	d, requests := hotRequests(t)
	before := d.store.Stats()
	for name, limit := range map[string]float64{"plain": 12, "task": 12, "nobody": 1} {
		request := requests[name]
		got := testing.AllocsPerRun(100, func() {
			if r := d.service.Authenticate(t.Context(), request); r.Status == api.AuthFailed {
				t.Fatal(r.Message)
			}
		})
		t.Logf("%s: %v allocations", name, got)
		if got > limit {
			t.Errorf("%s: %v allocations, at most %v are wanted", name, got, limit)
		}
	}
	// Each of the two clients was read once.
	if n := d.store.Stats().Statements - before.Statements; n > 2 {
		t.Errorf("%d statements for requests of clients that are known", n)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	d, requests := hotRequests(b)
	for name, request := range requests {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := d.service.Authenticate(b.Context(), request); r.Status == api.AuthFailed {
					b.Fatal(r.Message)
				}
			}
		})
	}
	b.Run("task, never seen", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.service.realm.grants.clear()
			if r := d.service.Authenticate(b.Context(), requests["task"]); r.Status == api.AuthFailed {
				b.Fatal(r.Message)
			}
		}
	})
}

// BenchmarkRoleWrite changes one role among thousands.
func BenchmarkRoleWrite(b *testing.B) {
	d := deploy(b)
	for i := range 3000 {
		_, _, err := d.service.changeRoles(b.Context(), nil, func(*roleSet) (roleChange, error) {
			return roleChange{role: &role{id: fmt.Sprintf("role-%d:*", i), scopes: []string{"x:<..>", fmt.Sprintf("assume:group-%d", i)}}, action: "created", exchange: roleCreated}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		_, _, err := d.service.changeRoles(b.Context(), nil, func(*roleSet) (roleChange, error) {
			return roleChange{role: &role{id: "changing", scopes: []string{"y"}}, action: "updated", exchange: roleUpdated}, nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// TestChurn has clients changed while others authenticate: whoever was answered
// that a client is disabled never sees it succeed afterwards.
func TestChurn(t *testing.T) {
	d := deploy(t)
	c := d.client("foo", "a")
	request := d.signedRequest(c)
	for range 20 {
		stop := make(chan struct{})
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						d.service.Authenticate(t.Context(), request)
					}
				}
			})
		}
		d.call(d.root(), "POST", "/clients/foo/disable", nil).want(200)
		for range 50 {
			if r := d.service.Authenticate(t.Context(), request); r.Status != api.AuthFailed {
				t.Error("a disabled client succeeds")
			}
		}
		d.call(d.root(), "POST", "/clients/foo/enable", nil).want(200)
		if r := d.service.Authenticate(t.Context(), request); r.Status != api.AuthSuccess {
			t.Error(r.Message)
		}
		close(stop)
		group.Wait()
	}
}

func TestCache(t *testing.T) {
	c := newCache[int, int](3)
	for i := range 100 {
		c.put(i, i, c.now())
	}
	if len(c.entries) != 3 {
		t.Errorf("%d entries", len(c.entries))
	}
	before := c.now()
	c.forget(1000)
	c.put(1, 1, before)
	if v, ok := c.get(1); ok && v == 1 && before == c.now() {
		t.Error("what was read before a change is kept")
	}
	c.clear()
	c.put(7, 7, before)
	if _, ok := c.get(7); ok {
		t.Error("what was read before a change is kept")
	}
	c.put(7, 8, c.now())
	if v, _ := c.get(7); v != 8 {
		t.Error(v)
	}
}

// FuzzAuthenticateHawk: whatever is sent, the answer has one of three shapes.
func FuzzAuthenticateHawk(f *testing.F) {
	d, requests := hotRequests(f)
	f.Add("", someResource)
	f.Add(requests["plain"].Authorization, someResource)
	f.Add(requests["task"].Authorization, someResource)
	f.Add(d.withExt("worker", encoded(`{"certificate":{"version":1,"scopes":[],"start":1,"expiry":2,"seed":"x","issuer":"y"}}`)), someResource)
	f.Add("", d.bewitResource(d.root(), "/x?y=1", time.Hour))
	f.Add("", "/x?bewit=&bewit=YQ")
	f.Fuzz(func(t *testing.T, authorization, resource string) {
		d.t = t
		switch r := d.service.Authenticate(t.Context(), api.AuthRequest{Method: "GET", Resource: resource, Host: testHost, Port: testPort, Authorization: authorization}); {
		case r.Err != nil:
			t.Error(r.Err)
		case r.Status == api.AuthFailed && r.Message != "":
		case r.Status == api.NoAuth && authorization == "":
		case r.Status == api.AuthSuccess && r.ClientID != "" && r.Scopes.Has(anonymous):
		default:
			t.Errorf("%+v", r)
		}
		a := d.call(nobody, "POST", "/authenticate-hawk", map[string]any{
			"method": "get", "resource": resource, "host": testHost, "port": testPort, "authorization": authorization,
		})
		if a.status == 400 && strings.ContainsRune(authorization+resource, 0) {
			return // NUL is not allowed in JSON that comes in
		}
		a.want(200) // and checked against the schema
	})
}
