package workload

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"taskcluster/client"
	"taskcluster/client/auth"
	"taskcluster/client/queue"
)

// Node is a process that serves the API.
type Node struct {
	RootURL     string
	Credentials client.Credentials // of somebody who may do anything
	Clock       *Clock
}

// Load is clients at work.
type Load struct {
	ledger *Ledger
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	nodes []*node
}

// node is a Node, and the connections to it.
type node struct {
	Node
	transport *http.Transport
}

func (n *node) config(c client.Credentials) client.Config {
	// Retries are ours, so that each call that is sent is known of.
	return client.Config{RootURL: n.RootURL, Credentials: c, Transport: n.transport, Retries: -1, Now: n.Clock.Now}
}

func (n *node) queue(c client.Credentials) *queue.Client {
	q, err := queue.New(n.config(c))
	if err != nil {
		panic(err) // the URL is malformed
	}
	return q
}

func (n *node) auth(c client.Credentials) *auth.Client {
	a, err := auth.New(n.config(c))
	if err != nil {
		panic(err) // the URL is malformed
	}
	return a
}

// maxOpen is how many unresolved tasks the clients let pile up.
const maxOpen = 400

// Start sets clients to work: so many who create, so many workers, and a few
// who disturb them. name tells their workers from those of another Load.
func Start(l *Ledger, name string, clients int, nodes ...Node) *Load {
	load := &Load{ledger: l}
	load.ctx, load.stop = context.WithCancel(context.Background())
	load.SetNodes(nodes...)
	for i := range clients {
		load.wg.Go(func() { load.create() })
		load.wg.Go(func() { load.work(name, i) })
	}
	load.wg.Go(load.meddle)
	load.wg.Go(load.groups)
	load.wg.Go(func() { load.claimNamed(name) })
	load.wg.Go(func() { load.administer(name) })
	return load
}

// SetNodes names the nodes that calls are sent to from now on. Calls under way
// go on.
func (l *Load) SetNodes(nodes ...Node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.nodes {
		n.transport.CloseIdleConnections()
	}
	l.nodes = nil
	for _, n := range nodes {
		l.nodes = append(l.nodes, &node{Node: n, transport: client.NewTransport()})
	}
}

// Stop ends the clients. What they have under way is given up.
func (l *Load) Stop() {
	l.stop()
	l.wg.Wait()
	l.SetNodes()
}

// pick is one of the nodes; nil when the clients shall end.
func (l *Load) pick() *node {
	for l.ctx.Err() == nil {
		l.mu.Lock()
		nodes := l.nodes
		l.mu.Unlock()
		if len(nodes) > 0 {
			return nodes[rand.IntN(len(nodes))]
		}
		l.pause()
	}
	return nil
}

func (l *Load) pause() {
	select {
	case <-l.ctx.Done():
	case <-time.After(time.Duration(10+rand.IntN(40)) * time.Millisecond):
	}
}

// outcome is how a call ended.
type outcome int

const (
	done outcome = iota
	refused
	unknown // it may or may not have happened, now or later
)

// outcomeOf judges a call's error, and counts it. may are the statuses by which
// the call may be refused; another one is a broken promise. When a clock was set
// since the moment at which the call's times were told, its signature or they may
// be of another hour, and it may be tried again.
func (l *Load) outcomeOf(what string, since int, err error, may ...int) outcome {
	status := client.StatusCode(err)
	astray := (status == 400 || status == 401) && !l.ledger.clocks.steady(since)
	var o outcome
	l.ledger.with(func() {
		switch {
		case err == nil:
			l.ledger.counts.Acknowledged++
		case status == 0:
			o = unknown
			l.ledger.counts.Unknown++
		case status >= 500:
			o = unknown
			l.ledger.counts.Unavailable++
		case astray:
			o = unknown
			l.ledger.counts.Refused++
		default:
			o = refused
			l.ledger.counts.Refused++
			for _, m := range may {
				if m == status {
					return
				}
			}
			l.ledger.broken("%s was refused: %v", what, err)
		}
	})
	return o
}

// call makes a call until its outcome is known, or no longer than the client's
// patience, which differs from call to call. again tells whether an earlier try
// may have happened.
func (l *Load) call(what string, may []int, f func(ctx context.Context, n *node, again bool) error) outcome {
	return l.callSince(l.ledger.clocks.moment(), what, may, f)
}

// callSince is call with times that were told at an earlier moment.
func (l *Load) callSince(since int, what string, may []int, f func(ctx context.Context, n *node, again bool) error) outcome {
	o := refused // nothing was sent
	tries := 1 + rand.IntN(60)
	for i := range tries {
		n := l.pick()
		if n == nil {
			return o
		}
		// It is given time to end, even when the load ends: a call that was
		// given up is one more whose outcome is not known.
		ctx, cancel := context.WithTimeout(l.ctx, 30*time.Second)
		err := f(ctx, n, i > 0)
		cancel()
		if o = l.outcomeOf(what, since, err, may...); o != unknown {
			return o
		}
		l.pause()
	}
	return o
}
