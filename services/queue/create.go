package queue

import (
	"bytes"
	"errors"
	"strings"
	"time"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
)

// creation is one task on its way through the batch.
type creation struct {
	def  *definition
	text []byte // of the definition
	at   int    // where priority belongs in text

	// What createTasks knows of its tasks.
	broken   error       // why the task is refused in any case
	within   []*creation // for each dependency the task of the same call that it names, or nil; nil when there is none
	required bool        // a task of the same call depends on it

	demand  int   // the group, in the batch
	task    *task // as it was created or found
	reply   []byte
	refusal error
}

// creations are the tasks of one call, each behind those that it depends on.
type creations struct {
	items []*creation
	audit func(*store.Tx) // called when at least one was accepted
}

func (s *Service) createTask(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	item, err := s.prepare(c, id, c.Body(), nil)
	if err != nil {
		return nil, err
	}
	if err := s.creates.Do(c.Context, &creations{items: []*creation{item}, audit: c.Audit}); err != nil {
		return nil, err
	}
	if item.refusal != nil {
		return nil, item.refusal
	}
	return api.JSON(item.reply), nil
}

// prepare does what can be done outside of the transaction: it reads a body
// that passed the schema, authorizes the caller, and applies the rules that
// concern the task alone. like is a task that the caller was authorized for by
// this call, or nil.
func (s *Service) prepare(c *api.Call, id slugid.ID, body []byte, like *definition) (*creation, error) {
	d, err := parseDefinition(id, body)
	if err != nil {
		return nil, err
	}
	if len(d.dependencies) > s.maxDependencies {
		return nil, tcerr.New(tcerr.InputError, "task.dependencies exceeds the maximum allowed number of dependencies (%d)", s.maxDependencies)
	}
	if like == nil || !d.needsScopesOf(like) {
		if err := authorizeCreation(c, d); err != nil {
			return nil, err
		}
	}
	if err := d.check(s.clock.Now(), s.maxDeadline); err != nil {
		return nil, err
	}
	if err := s.scopeRoom.check(d.scopes); err != nil {
		return nil, err
	}
	item := &creation{def: d}
	item.text, item.at = d.text()
	return item, nil
}

func authorizeCreation(c *api.Call, d *definition) error {
	return c.Authorize(map[string]any{
		"scopes": d.scopes, "routes": stringsOf(d.rawRoutes), "priorities": atLeast(d.priority),
		"projectId": d.project, "schedulerId": d.scheduler,
		"provisionerId": d.provisioner, "workerType": d.workerType,
	})
}

// atLeast are the names of a priority and of those above it.
func atLeast(p priority) []string { return priorityNames[p:] }

// needsScopesOf tells whether both tasks take the same scopes to create.
func (d *definition) needsScopesOf(o *definition) bool {
	return d.queue == o.queue && d.priority == o.priority && d.project == o.project && d.scheduler == o.scheduler &&
		bytes.Equal(d.rawScopes, o.rawScopes) && bytes.Equal(d.rawRoutes, o.rawRoutes)
}

// groupExtra is how much longer than its last task a group is kept.
const groupExtra = time.Hour

// groupDemand is a group that tasks of a batch want to be in. Tasks are counted
// before they are inserted, which takes one statement for each group; those
// that turn out to be refused or there already are taken off afterwards.
type groupDemand struct {
	id        slugid.ID
	row       int64
	scheduler string
	expires   clock.Time
	tasks     int
	excess    int
	refusal   error
}

// createBatch creates tasks: three statements for one in a group of its own,
// two for one that shares its group with others of the batch, and those for
// its dependencies.
func (s *Service) createBatch(tx *store.Tx, calls []*creations) error {
	o := s.begin(tx)
	demands := groupDemands{list: make([]groupDemand, 0, len(calls))}
	for _, call := range calls {
		for _, item := range call.items {
			item.reply, item.task, item.refusal = nil, nil, item.broken
			if item.broken != nil {
				continue
			}
			item.demand = demands.of(item.def)
			g := &demands.list[item.demand]
			g.tasks++
			g.expires = max(g.expires, item.def.expires.Add(groupExtra))
		}
	}
	if err := o.ensureGroups(demands.list); err != nil {
		return err
	}
	created := func(*creation) bool { return false }
	if s.sets {
		set, err := o.createSet(calls, demands.list)
		if err != nil {
			return err
		}
		created = set.created
	}
	if err := o.createEach(calls, demands.list, created); err != nil {
		return err
	}
	for i := range demands.list {
		if g := &demands.list[i]; g.excess > 0 && g.refusal == nil {
			if _, err := tx.Exec(stmt.adjustGroup, -g.excess, -g.excess, g.row); err != nil {
				return err
			}
		}
	}
	return o.finish()
}

// createEach creates the tasks of a batch, whose groups are there, one by one,
// apart from those that were created.
func (o *op) createEach(calls []*creations, demands []groupDemand, was func(*creation) bool) error {
	for _, call := range calls {
		accepted := false
		for _, item := range call.items {
			if item.broken != nil {
				continue
			}
			g := &demands[item.demand]
			if g.refusal != nil {
				item.refusal = g.refusal
				continue
			}
			created := was(item)
			if !created {
				var err error
				if created, err = o.create(item, g.row); err != nil {
					return err
				}
			}
			if !created {
				g.excess++
			}
			accepted = accepted || item.refusal == nil
		}
		if accepted {
			call.audit(o.tx)
		}
	}
	return nil
}

// groupDemands are the groups that a batch wants. A list is faster than a map
// while it is short.
type groupDemands struct {
	list  []groupDemand
	index map[groupName]int // of the list, once it is long
}

type groupName struct {
	id        slugid.ID
	scheduler string
}

// of finds or adds the group of a task, and returns its place in the list.
func (g *groupDemands) of(d *definition) int {
	name := groupName{d.group, d.scheduler}
	if g.index == nil {
		for i := len(g.list) - 1; i >= 0; i-- {
			if g.list[i].id == name.id && g.list[i].scheduler == name.scheduler {
				return i
			}
		}
	} else if i, ok := g.index[name]; ok {
		return i
	}
	g.list = append(g.list, groupDemand{id: d.group, scheduler: d.scheduler})
	switch {
	case g.index != nil:
		g.index[name] = len(g.list) - 1
	case len(g.list) == 64:
		g.index = make(map[groupName]int, 2*len(g.list))
		for i := range g.list {
			g.index[groupName{g.list[i].id, g.list[i].scheduler}] = i
		}
	}
	return len(g.list) - 1
}

// ensureGroup makes the group or counts the tasks in, unless it is another
// scheduler's or sealed.
func (o *op) ensureGroup(g *groupDemand) error {
	err := o.tx.Row(stmt.ensureGroup, g.id, g.scheduler, g.expires, g.tasks, g.tasks, o.now).Scan(&g.row)
	if !errors.Is(err, store.ErrNoRows) {
		return err
	}
	return o.refuseGroup(g)
}

// refuseGroup says why a group takes no tasks of a scheduler.
func (o *op) refuseGroup(g *groupDemand) error {
	there, err := loadGroup(o.tx, g.id)
	if err != nil {
		return err
	}
	if there.scheduler != g.scheduler {
		g.refusal = tcerr.New(tcerr.RequestConflict, "Task group `%s` contains tasks with a schedulerId other\nthan `%s`. All tasks in the same task-group must have\nthe same schedulerId.", g.id, g.scheduler)
	} else {
		g.refusal = tcerr.New(tcerr.RequestConflict, "Task group `%s` is sealed and does not accept new tasks.", g.id)
	}
	return nil
}

// create inserts one task. created is false when it is there already or
// refused; item has the reply or the refusal.
func (o *op) create(item *creation, groupRow int64) (created bool, err error) {
	d := item.def
	deps, problem, err := o.checkDependencies(item)
	if err != nil {
		return false, err
	}
	if problem != nil {
		item.refusal = problem
		existing, err := loadTask(o.tx, d.id)
		if errors.Is(err, store.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return false, o.adopt(item, existing)
	}

	t := &task{
		id: d.id, group: d.group, groupRow: groupRow, queue: d.queue, scheduler: d.scheduler, project: d.project,
		priority: d.priority, retries: d.retries, retriesLeft: d.retries, unsatisfied: deps.open,
		deadline: d.deadline, expires: d.expires, tags: d.tags, routes: d.rawRoutes,
		hasDependents: item.required, concurrency: d.concurrency, last: run{id: -1},
	}
	if t.unsatisfied == 0 {
		t.last = run{id: 0, state: pending, reasonCreated: reasonScheduled, scheduled: o.now}
	}
	key, limit := t.concurrency.columns()
	row, inserted, err := o.tx.Insert(stmt.insertTask, t.id, t.groupRow, t.queue, int64(t.state()), int64(t.priority), t.retriesLeft,
		t.unsatisfied, t.hasDependents, t.deadline, t.expires, t.due(), t.last.id, int64(t.last.reasonCreated), t.last.scheduled, key, limit)
	if err == nil && !inserted {
		existing, err := loadTask(o.tx, d.id)
		if err != nil {
			return false, err
		}
		return false, o.adopt(item, existing)
	}
	if err != nil {
		return false, err
	}
	t.row = row
	if _, err := o.tx.Exec(stmt.insertDefinition, t.row, t.group, t.scheduler, t.project, t.retries, item.at,
		t.tags, t.routes, item.text); err != nil {
		return false, err
	}
	if err := o.addDependencies(t, item, deps); err != nil {
		return false, err
	}
	o.moved(t, unscheduled)
	o.publishDefined(t)
	if t.state() == pending {
		o.publishPending(t)
	}
	item.task, item.reply = t, t.statusReply()
	return true, nil
}

// adopt answers a createTask for a task that is there: the same definition is
// a repetition, another one a conflict.
func (o *op) adopt(item *creation, t *task) error {
	var was stored
	var p int64
	if err := o.tx.Row(stmt.definition, t.id).Scan(&p, &was.at, &was.text); err != nil {
		return err
	}
	if priority(p) != item.def.priority || !equalJSON(was.text, item.text) {
		item.refusal = tcerr.New(tcerr.RequestConflict, "taskId `%s` already used by another task.\nThis could be the result of faulty idempotency!", t.id)
		return nil
	}
	item.refusal = nil
	o.publishDefined(t)
	if t.last.id == 0 && t.state() == pending {
		o.publishPending(t)
	}
	item.task, item.reply = t, t.statusReply()
	return nil
}

// dependencyState is what a task's dependencies look like when it is created.
type dependencyState struct {
	open int           // how many still block
	row  []requiredRow // in the order of the definition
}

type requiredRow struct {
	row       int64 // tasks.id
	satisfied bool
	mark      bool // the task must learn that it has dependents
}

// checkDependencies looks at what a new task depends on, before anything is
// written. problem is why the task must be refused.
func (o *op) checkDependencies(item *creation) (deps dependencyState, problem, err error) {
	d := item.def
	if len(d.dependencies) == 0 {
		return deps, nil, nil
	}
	var missing, expiring, refused []string
	deps.row = make([]requiredRow, len(d.dependencies))
	for i, id := range d.dependencies {
		if id == d.id { // legal: it waits for scheduleTask
			deps.open++
			continue
		}
		r := &deps.row[i]
		var st state
		var expires clock.Time
		var known bool
		if item.within != nil && item.within[i] != nil {
			other := item.within[i]
			if other.refusal != nil {
				refused = append(refused, id.String())
				continue
			}
			r.row, st, expires, known = other.task.row, other.task.state(), other.task.expires, other.task.hasDependents
		} else {
			var n int64
			err := o.tx.Row(stmt.dependency, id).Scan(&r.row, &n, &expires, &known)
			if errors.Is(err, store.ErrNoRows) {
				missing = append(missing, id.String())
				continue
			}
			if err != nil {
				return deps, nil, err
			}
			st = state(n)
		}
		if expires < d.deadline {
			expiring = append(expiring, id.String())
			continue
		}
		r.satisfied = st == completed || d.allResolved && st.resolved()
		if !r.satisfied {
			deps.open++
			r.mark = !known
		}
	}
	switch {
	case len(missing) > 0:
		problem = tcerr.New(tcerr.InputError, "task.dependencies references non-existing tasks: %s", strings.Join(missing, ", "))
	case len(refused) > 0:
		problem = tcerr.New(tcerr.InputError, "task.dependencies references tasks that this call could not create: %s", strings.Join(refused, ", "))
	case len(expiring) > 0:
		problem = tcerr.New(tcerr.InputError, "task.dependencies references tasks that expire before this task's deadline: %s", strings.Join(expiring, ", "))
	}
	return deps, problem, nil
}

// addDependencies records what a new task depends on.
func (o *op) addDependencies(t *task, item *creation, deps dependencyState) error {
	d, requires := item.def, 0
	if d.allResolved {
		requires = 1
	}
	for i, id := range d.dependencies {
		r := deps.row[i]
		if id == d.id {
			r.row, r.mark, t.hasDependents = t.row, true, true
		}
		if _, err := o.tx.Exec(stmt.insertDependency, r.row, t.row, requires, r.satisfied, t.expires); err != nil {
			return err
		}
		if r.mark {
			if _, err := o.tx.Exec(stmt.markRequired, r.row); err != nil {
				return err
			}
			if item.within != nil && item.within[i] != nil {
				item.within[i].task.hasDependents = true
			}
		}
	}
	return nil
}
