package queue

import (
	"container/heap"
	"math"
	"strconv"
	"strings"

	"taskcluster/internal/tcerr"
)

// concurrency is the limit that a task sets for itself with extra.concurrency:
// it is claimable while fewer than limit runs are live that have the same key.
// A run is live from its claim to its resolution, whatever ends it. Keys belong
// to a project, since whoever creates tasks in it needs a scope for that.
type concurrency struct {
	key   string // projectId, a space, which no projectId has, and the key
	limit int
}

// columns are how it is stored.
func (c *concurrency) columns() (key string, limit int) {
	if c == nil {
		return "", 0
	}
	return c.key, c.limit
}

// concurrencyOf is what was stored.
func concurrencyOf(key string, limit int) *concurrency {
	if limit == 0 {
		return nil
	}
	return &concurrency{key, limit}
}

// name is the key without its project.
func (c *concurrency) name() string {
	_, name, _ := strings.Cut(c.key, " ")
	return name
}

const (
	maxConcurrencyKey   = 255
	maxConcurrencyLimit = math.MaxInt32 // more is no limit
)

// parseConcurrency reads extra.concurrency; nil when there is none.
func parseConcurrency(project string, extra []byte) (*concurrency, error) {
	if len(extra) <= len(`{}`) {
		return nil, nil
	}
	var text []byte
	eachMember(extra, func(name string, v []byte) {
		if name == "concurrency" {
			text = v
		}
	})
	if text == nil {
		return nil, nil
	}
	bad := func(what string) error {
		return tcerr.New(tcerr.InputError, "task.extra.concurrency %s. It must be {\"key\": …, \"limit\": …} "+
			"with a key of 1 to %d printable ASCII characters and a limit that is an integer of at least 1", what, maxConcurrencyKey)
	}
	if text[0] != '{' {
		return nil, bad("is not an object")
	}
	c := &concurrency{}
	var err error
	eachMember(text, func(name string, v []byte) {
		switch name {
		case "key":
			key := unquote(v)
			if v[0] != '"' || key == "" || len(key) > maxConcurrencyKey || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
				err = bad("has a key that is not such a string")
			}
			c.key = project + " " + key
		case "limit":
			n, e := strconv.ParseFloat(string(v), 64) // 5.0 is an integer too
			if e != nil || n < 1 || n != math.Trunc(n) {
				err = bad("has a limit that is not such a number")
				return
			}
			c.limit = int(min(n, maxConcurrencyLimit))
		default:
			err = bad("has the unknown member " + strconv.QuoteToASCII(name))
		}
	})
	switch {
	case err != nil:
		return nil, err
	case c.key == "":
		return nil, bad("has no key")
	case c.limit == 0:
		return nil, bad("has no limit")
	}
	return c, nil
}

// gate is one key: the runs that are live, and those that wait for them or for
// a worker. It is there while there are any.
type gate struct {
	key     string
	live    map[int64]*hold             // by tasks.id
	classes map[int]map[string]*waiting // by limit and task queue
}

// hold is one live run. It begins when the run is taken, before the claim is
// committed: so those who claim at the same time never exceed a limit together.
type hold struct {
	gate    *gate
	row     int64
	running bool // the claim is committed
}

// waiting are the pending runs of one key, task queue and limit: as long as the
// limit admits one, the first of them stands in the queue's order, where claims
// find it; the others are kept aside. So a claim or a resolution moves at most
// one run of each class, however many wait.
type waiting struct {
	gate  *gate
	queue string
	limit int
	first *keyedRun // in the queue's order; nil when none is admitted
	rest  keyedHeap
}

// keyedRun is a pending run with a key.
type keyedRun struct {
	pendingRun
	class *waiting
	at    int // its place in rest
}

type keyedHeap []*keyedRun

func (h keyedHeap) Len() int           { return len(h) }
func (h keyedHeap) Less(i, j int) bool { return h[i].before(&h[j].pendingRun) }
func (h keyedHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *keyedHeap) Push(k any)        { r := k.(*keyedRun); r.at = len(*h); *h = append(*h, r) }
func (h *keyedHeap) Pop() any {
	end := len(*h) - 1
	r := (*h)[end]
	(*h)[end] = nil
	*h = (*h)[:end]
	return r
}

// before tells whether a is claimed before b.
func (a *pendingRun) before(b *pendingRun) bool {
	if a.priority != b.priority {
		return a.priority > b.priority
	}
	return heapItem{a.scheduled, a.row}.before(heapItem{b.scheduled, b.row})
}

func (m *memoryPending) gate(key string) *gate {
	g := m.gates[key]
	if g == nil {
		g = &gate{key: key, live: map[int64]*hold{}, classes: map[int]map[string]*waiting{}}
		m.gates[key] = g
	}
	return g
}

// insertKeyed adds a pending run with a key.
func (m *memoryPending) insertKeyed(queue string, r pendingRun) {
	g := m.gate(r.limit.key)
	classes := g.classes[r.limit.limit]
	if classes == nil {
		classes = map[string]*waiting{}
		g.classes[r.limit.limit] = classes
	}
	class := classes[queue]
	if class == nil {
		class = &waiting{gate: g, queue: queue, limit: r.limit.limit}
		classes[queue] = class
	}
	k := &keyedRun{pendingRun: r, class: class}
	m.keyed[r.row] = k
	heap.Push(&class.rest, k)
	m.settle(class)
}

// removeKeyed takes a pending run out.
func (m *memoryPending) removeKeyed(k *keyedRun) {
	delete(m.keyed, k.row)
	if k.class.first == k {
		k.class.first = nil
		m.remove(m.places[k.row])
	} else {
		heap.Remove(&k.class.rest, k.at)
	}
	m.settle(k.class)
}

// settle puts the first run of a class into the queue's order, or takes it out,
// as the number of live runs admits.
func (m *memoryPending) settle(c *waiting) {
	admitted := len(c.gate.live) < c.limit
	if c.first != nil && (!admitted || len(c.rest) > 0 && c.rest[0].before(&c.first.pendingRun)) {
		m.remove(m.places[c.first.row])
		heap.Push(&c.rest, c.first)
		c.first = nil
	}
	if admitted && c.first == nil && len(c.rest) > 0 {
		c.first = heap.Pop(&c.rest).(*keyedRun)
		q := m.queue(c.queue)
		m.insert(q, c.first.pendingRun)
		m.touch(q)
	}
	if c.first == nil && len(c.rest) == 0 {
		classes := c.gate.classes[c.limit]
		if classes[c.queue] == c {
			delete(classes, c.queue)
		}
		if len(classes) == 0 {
			delete(c.gate.classes, c.limit)
		}
		m.tidyGate(c.gate)
	}
}

// count settles the classes that one live run more or less makes a difference
// for; most is the greater number of live runs, before or after.
func (m *memoryPending) count(g *gate, most int) {
	for _, c := range g.classes[most] { // of which settle may delete this one
		m.settle(c)
	}
	m.tidyGate(g)
}

func (m *memoryPending) tidyGate(g *gate) {
	if len(g.live) == 0 && len(g.classes) == 0 {
		delete(m.gates, g.key)
	}
}

// holdRun counts a run as live.
func (m *memoryPending) holdRun(key string, row int64, running bool) *hold {
	g := m.gate(key)
	old := g.live[row]
	h := &hold{gate: g, row: row, running: running || old != nil && old.running}
	g.live[row] = h
	if old == nil {
		m.count(g, len(g.live))
	}
	return h
}

// letGo counts a run as live no more.
func (m *memoryPending) letGo(h *hold) {
	delete(h.gate.live, h.row)
	m.count(h.gate, len(h.gate.live)+1)
}

// giveUp ends the hold of a run that was taken and not claimed. It tells whether
// there was one: it is over when the run was claimed, resolved or taken since.
func (m *memoryPending) giveUp(h *hold) bool {
	held := h != nil && h.gate.live[h.row] == h && !h.running
	if held {
		m.letGo(h)
	}
	return held
}

// follow does what a committed change of a run with a key means for the key.
func (m *memoryPending) follow(c *pendingChange) {
	if c.running {
		m.holdRun(c.limit.key, c.row, true)
		return
	}
	g := m.gates[c.limit.key]
	if g == nil {
		return
	}
	// A run that is pending and held was taken by somebody who is about to claim it.
	if h := g.live[c.row]; h != nil && (h.running || c.queue == "") {
		m.letGo(h)
	}
}

// release gives up taken runs that turned out not to be pending.
func (m *memoryPending) release(runs []pendingRun) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range runs {
		m.giveUp(r.hold)
	}
	m.serveTouched()
}

// takeRun removes one run, which has a concurrency key, whatever its place.
// admitted is false when its limit is reached. One that is not there was taken
// before, or is not pending.
func (m *memoryPending) takeRun(row int64) (run pendingRun, there, admitted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.keyed[row]
	if k == nil {
		return pendingRun{}, false, true
	}
	if len(k.class.gate.live) >= k.class.limit {
		return pendingRun{}, true, false
	}
	run = k.pendingRun
	m.removeKeyed(k)
	run.hold = m.holdRun(run.limit.key, row, false)
	m.serveTouched()
	return run, true, true
}
