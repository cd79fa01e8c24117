package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/internal/store"
)

// administer makes, changes and deletes clients and roles. A new client's
// token is good at every node at once.
func (l *Load) administer(name string) {
	for i := 0; l.ctx.Err() == nil; i++ {
		l.pause()
		l.client(fmt.Sprintf("crash/%s/%d", name, i))
		l.pause()
		l.role(fmt.Sprintf("crash:%s:%d", name, i))
	}
}

// entity changes a client or a role to value ("" deletes it), by f.
func (l *Load) entity(what, key, value string, may []int, f func(ctx context.Context, n *node, again bool) error) outcome {
	var e *entity
	l.ledger.with(func() {
		if e = l.ledger.auth[key]; e == nil {
			e = &entity{}
			l.ledger.auth[key] = e
		}
		e.value.sent(value)
	})
	o := l.call(what, may, f)
	l.ledger.with(func() {
		if e.value.end(value, o); o == done {
			e.changes++
		}
	})
	return o
}

func (l *Load) client(id string) {
	key := "client/" + id
	in := &auth.CreateClientRequest{Description: "first", Expires: client.At(l.ledger.clocks.now().Add(24 * time.Hour)), Scopes: []string{"crash:scope"}}
	var token string
	if l.entity("createClient", key, in.Description, nil, func(ctx context.Context, n *node, _ bool) error {
		got, err := n.auth(n.Credentials).CreateClient(ctx, id, in)
		if err == nil {
			token = got.AccessToken
		}
		return err
	}) != done {
		return
	}
	l.call("currentScopes of a new client", nil, func(ctx context.Context, n *node, _ bool) error {
		_, err := n.auth(client.Credentials{ClientID: id, AccessToken: token}).CurrentScopes(ctx)
		return err
	})
	second := *in
	second.Description = "second"
	l.entity("updateClient", key, second.Description, nil, func(ctx context.Context, n *node, _ bool) error {
		_, err := n.auth(n.Credentials).UpdateClient(ctx, id, &second)
		return err
	})
	if rand.IntN(2) > 0 {
		return
	}
	if l.entity("deleteClient", key, "", nil, func(ctx context.Context, n *node, _ bool) error {
		return n.auth(n.Credentials).DeleteClient(ctx, id)
	}) != done {
		return
	}
	l.revoked(id, client.Credentials{ClientID: id, AccessToken: token})
}

// revoked sees that a deleted client is let in no more: at the node that deleted
// it at once, at the others when they hear of it, and no later than store.Delay.
func (l *Load) revoked(id string, credentials client.Credentials) {
	for began := time.Now(); ; l.pause() {
		n := l.pick()
		if n == nil {
			return
		}
		since := time.Since(began) // when it is asked
		moment := l.ledger.clocks.moment()
		_, err := n.auth(credentials).CurrentScopes(l.ctx)
		o := l.outcomeOf("currentScopes of a deleted client", moment, err, 401)
		if o == done {
			l.ledger.with(func() {
				l.ledger.counts.Staleness = max(l.ledger.counts.Staleness, since)
				if since > store.Delay {
					l.ledger.broken("client %s was deleted, and is let in by %s %v later", id, n.RootURL, since)
				}
			})
		}
		if o == refused || since > store.Delay {
			return
		}
	}
}

func (l *Load) role(id string) {
	key := "role/" + id
	in := &auth.CreateRoleRequest{Description: "first", Scopes: []string{"crash:scope"}}
	// The same role again is not refused.
	if l.entity("createRole", key, in.Description, nil, func(ctx context.Context, n *node, _ bool) error {
		_, err := n.auth(n.Credentials).CreateRole(ctx, id, in)
		return err
	}) != done {
		return
	}
	second := *in
	second.Description = "second"
	l.entity("updateRole", key, second.Description, nil, func(ctx context.Context, n *node, _ bool) error {
		_, err := n.auth(n.Credentials).UpdateRole(ctx, id, &second)
		return err
	})
	if rand.IntN(2) == 0 {
		l.entity("deleteRole", key, "", nil, func(ctx context.Context, n *node, _ bool) error {
			return n.auth(n.Credentials).DeleteRole(ctx, id)
		})
	}
}
