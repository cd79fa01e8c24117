package queue

import (
	"errors"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/schema"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// maxBulk is how many tasks of createTasks may wait for the writer or be in a
// transaction at a time, so that no other write waits much longer than it takes
// to create these. It is no less than one call may have.
const maxBulk = 2000

// createTasks creates many tasks. Its answer has one entry for each, in the
// order of the call; the call fails only as a whole if it is malformed, its
// credentials are bad, or the database fails.
func (s *Service) createTasks(c *api.Call) (any, error) {
	if err := c.Authenticate(); err != nil {
		return nil, err
	}
	sc, err := c.Schema("v1/create-task-request.json#")
	if err != nil {
		return nil, err
	}
	items, err := s.prepareAll(c, sc)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return api.JSON(`{"tasks":[]}`), nil
	}
	call := &creations{items: inOrder(items), audit: func(tx *store.Tx) {
		c.AuditParams(tx, map[string]string{"taskIds": acceptedIDs(items)})
	}}
	if err := s.bulk.Acquire(c.Context, int64(len(items))); err != nil {
		return nil, err
	}
	err = s.creates.Do(c.Context, call)
	s.bulk.Release(int64(len(items)))
	if err != nil {
		return nil, err
	}
	return api.JSON(appendCreations(make([]byte, 0, 64+640*len(items)), items)), nil
}

// prepareAll prepares each task of a body that passed the schema. An item that
// cannot be created is broken.
func (s *Service) prepareAll(c *api.Call, sc *schema.Schema) (items []*creation, err error) {
	var like *definition
	one := func(element []byte) {
		item := new(creation)
		var id slugid.ID
		var body []byte
		eachMember(element, func(name string, v []byte) {
			switch name {
			case "taskId":
				id, _ = slugid.Parse(unquote(v)) // the schema has its pattern
			case "task":
				body = v
			}
		})
		doc, problem := c.Accept(sc, body)
		if problem == nil {
			item, problem = s.prepare(c, id, doc, like)
		}
		switch {
		case problem == nil:
			like = item.def
		case ofItem(problem):
			item = &creation{def: &definition{id: id}, broken: problem}
		case err == nil:
			err = problem
		}
		items = append(items, item)
	}
	eachMember(c.Body(), func(name string, tasks []byte) {
		if name == "tasks" {
			eachElement(tasks, func(element []byte) {
				if err == nil {
					one(element)
				}
			})
		}
	})
	return items, err
}

// ofItem tells whether an error is an answer about one task, and not the
// server's trouble or the caller's credentials.
func ofItem(err error) bool {
	var e *tcerr.Error
	return errors.As(err, &e) && e.Code != tcerr.InternalServerError && e.Code != tcerr.AuthenticationFailed
}

// inOrder links the tasks of a call to those of the call that they depend on,
// and returns them with each behind these. Otherwise their order stays. Tasks
// that depend on each other in a circle are broken.
func inOrder(items []*creation) []*creation {
	byID := make(map[slugid.ID]*creation, len(items))
	for _, item := range items {
		if byID[item.def.id] == nil {
			byID[item.def.id] = item
		}
	}
	linked := false
	for _, item := range items {
		for i, id := range item.def.dependencies {
			other := byID[id]
			if other == nil || id == item.def.id {
				continue
			}
			if item.within == nil {
				item.within = make([]*creation, len(item.def.dependencies))
			}
			item.within[i], other.required, linked = other, true, true
		}
	}
	if !linked {
		return items
	}
	w := walk{marks: make(map[*creation]mark, len(items)), order: make([]*creation, 0, len(items))}
	for _, item := range items {
		w.visit(item)
	}
	return w.order
}

// walk finds the strongly connected components of a call's tasks (Tarjan's
// algorithm), each after those that it leads to. A component of more than one
// task is a circle.
type walk struct {
	marks map[*creation]mark
	stack []*creation
	order []*creation
}

type mark struct {
	number, low int // numbers begin with 1
	open        bool
}

func (w *walk) visit(item *creation) mark {
	if m := w.marks[item]; m.number != 0 {
		return m
	}
	n := len(w.marks) + 1
	m := mark{n, n, true}
	w.marks[item] = m
	at := len(w.stack)
	w.stack = append(w.stack, item)
	for _, other := range item.within {
		if other == nil {
			continue
		}
		if o := w.visit(other); o.open {
			m.low = min(m.low, o.low)
		}
	}
	w.marks[item] = m
	if m.low < m.number {
		return m
	}
	circle := w.stack[at:]
	if len(circle) > 1 {
		refuseCircle(circle)
	}
	for _, member := range circle {
		o := w.marks[member]
		o.open = false
		w.marks[member] = o
	}
	w.order = append(w.order, circle...)
	w.stack = w.stack[:at]
	return w.marks[item]
}

// maxNamed is how many tasks an error names.
const maxNamed = 20

func refuseCircle(circle []*creation) {
	names := make([]string, 0, maxNamed+1)
	for i, item := range circle {
		if i == maxNamed {
			names = append(names, "…")
			break
		}
		names = append(names, item.def.id.String())
	}
	err := tcerr.New(tcerr.InputError, "task.dependencies form a circle of %d tasks of this call, none of which could ever run: %s",
		len(circle), strings.Join(names, ", "))
	for _, item := range circle {
		if item.broken == nil {
			item.broken = err
		}
	}
}

// acceptedIDs are the tasks that were created or there already.
func acceptedIDs(items []*creation) string {
	b := make([]byte, 0, 23*len(items))
	for _, item := range items {
		if item.refusal != nil {
			continue
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = item.def.id.AppendTo(b)
	}
	return string(b)
}

func appendCreations(b []byte, items []*creation) []byte {
	b = append(b, `{"tasks":[`...)
	for i, item := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = item.def.id.AppendTo(append(b, `{"taskId":"`...))
		if item.refusal == nil {
			b = append(b, `",`...)
			b = append(b, item.reply[1:]...) // the members of the answer that createTask gives
			continue
		}
		var e *tcerr.Error
		errors.As(item.refusal, &e)
		b = append(b, `","error":{"code":`...)
		b = appendString(b, string(e.Code))
		b = appendString(append(b, `,"message":`...), e.Message)
		b = append(b, "}}"...)
	}
	return append(b, "]}"...)
}
