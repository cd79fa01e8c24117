package queue

import (
	"errors"
	"strings"

	"taskcluster/internal/api"
	"taskcluster/internal/clock"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
	"taskcluster/internal/tcerr"
	"time"
)

// creation is one createTask on its way through the batch.
type creation struct {
	def   *definition
	text  []byte // of the definition
	at    int    // where priority belongs in text
	audit func(*store.Tx)

	reply   []byte
	refusal error
}

func (s *Service) createTask(c *api.Call) (any, error) {
	id, err := slugid.Parse(c.Param("taskId"))
	if err != nil {
		return nil, err
	}
	d, err := parseDefinition(id, c.Body())
	if err != nil {
		return nil, err
	}
	if len(d.dependencies) > s.maxDependencies {
		return nil, tcerr.New(tcerr.InputError, "task.dependencies exceeds the maximum allowed number of dependencies (%d)", s.maxDependencies)
	}
	priorities := make([]string, 0, highest)
	for p := d.priority; p <= highest; p++ {
		priorities = append(priorities, p.String())
	}
	err = c.Authorize(map[string]any{
		"scopes": d.scopes, "routes": stringsOf(d.rawRoutes), "priorities": priorities,
		"projectId": d.project, "schedulerId": d.scheduler,
		"provisionerId": d.provisioner, "workerType": d.workerType,
	})
	if err != nil {
		return nil, err
	}
	if err := d.check(s.clock.Now(), s.maxDeadline); err != nil {
		return nil, err
	}
	if err := s.scopeRoom.check(d.scopes); err != nil {
		return nil, err
	}
	item := &creation{def: d, audit: c.Audit}
	item.text, item.at = d.text()
	if err := s.creates.Do(c.Context, item); err != nil {
		return nil, err
	}
	if item.refusal != nil {
		return nil, item.refusal
	}
	return api.JSON(item.reply), nil
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
// two for one that shares its group with others of the batch.
func (s *Service) createBatch(tx *store.Tx, items []*creation) error {
	o := s.begin(tx)
	demands := make([]groupDemand, 0, len(items))
	for _, item := range items {
		item.reply, item.refusal = nil, nil
		d := item.def
		g := demandOf(&demands, d)
		g.tasks++
		g.expires = max(g.expires, d.expires.Add(groupExtra))
	}
	for i := range demands {
		if err := o.ensureGroup(&demands[i]); err != nil {
			return err
		}
	}
	for _, item := range items {
		g := demandOf(&demands, item.def)
		if g.refusal != nil {
			item.refusal = g.refusal
			continue
		}
		created, err := o.create(item, g.row)
		if err != nil {
			return err
		}
		if !created {
			g.excess++
		}
		if item.refusal == nil {
			item.audit(tx)
		}
	}
	for i := range demands {
		if g := &demands[i]; g.excess > 0 && g.refusal == nil {
			if _, err := tx.Exec(stmt.adjustGroup, -g.excess, -g.excess, g.row); err != nil {
				return err
			}
		}
	}
	return o.finish()
}

// demandOf finds or adds the group of a task. A batch has few enough of them
// that a list is faster than a map.
func demandOf(demands *[]groupDemand, d *definition) *groupDemand {
	for i := range *demands {
		if g := &(*demands)[i]; g.id == d.group && g.scheduler == d.scheduler {
			return g
		}
	}
	*demands = append(*demands, groupDemand{id: d.group, scheduler: d.scheduler})
	return &(*demands)[len(*demands)-1]
}

// ensureGroup makes the group or counts the tasks in, unless it is another
// scheduler's or sealed.
func (o *op) ensureGroup(g *groupDemand) error {
	err := o.tx.Row(stmt.ensureGroup, g.id, g.scheduler, g.expires, g.tasks, g.tasks, o.now).Scan(&g.row)
	if !errors.Is(err, store.ErrNoRows) {
		return err
	}
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
	deps, problem, err := o.checkDependencies(d)
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
		last: run{id: -1},
	}
	if t.unsatisfied == 0 {
		t.last = run{id: 0, state: pending, reasonCreated: reasonScheduled, scheduled: o.now}
	}
	row, inserted, err := o.tx.Insert(stmt.insertTask, t.id, t.groupRow, t.queue, int64(t.state()), int64(t.priority), t.retriesLeft,
		t.unsatisfied, t.deadline, t.expires, t.due(), t.last.id, int64(t.last.reasonCreated), t.last.scheduled)
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
	if err := o.addDependencies(t, d, deps); err != nil {
		return false, err
	}
	o.moved(t, unscheduled)
	o.publishDefined(t)
	if t.state() == pending {
		o.publishPending(t)
	}
	item.reply = t.statusReply()
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
	item.reply = t.statusReply()
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
func (o *op) checkDependencies(d *definition) (deps dependencyState, problem, err error) {
	if len(d.dependencies) == 0 {
		return deps, nil, nil
	}
	var missing, expiring []string
	deps.row = make([]requiredRow, len(d.dependencies))
	for i, id := range d.dependencies {
		if id == d.id { // legal: it waits for scheduleTask
			deps.open++
			continue
		}
		var row, st int64
		var expires clock.Time
		var known bool
		err := o.tx.Row(stmt.dependency, id).Scan(&row, &st, &expires, &known)
		switch {
		case errors.Is(err, store.ErrNoRows):
			missing = append(missing, id.String())
			continue
		case err != nil:
			return deps, nil, err
		case expires < d.deadline:
			expiring = append(expiring, id.String())
			continue
		}
		r := &deps.row[i]
		r.row = row
		r.satisfied = state(st) == completed || d.allResolved && state(st).resolved()
		if !r.satisfied {
			deps.open++
			r.mark = !known
		}
	}
	switch {
	case len(missing) > 0:
		problem = tcerr.New(tcerr.InputError, "task.dependencies references non-existing tasks: %s", strings.Join(missing, ", "))
	case len(expiring) > 0:
		problem = tcerr.New(tcerr.InputError, "task.dependencies references tasks that expire before this task's deadline: %s", strings.Join(expiring, ", "))
	}
	return deps, problem, nil
}

// addDependencies records what a new task depends on.
func (o *op) addDependencies(t *task, d *definition, deps dependencyState) error {
	requires := 0
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
		}
	}
	return nil
}
