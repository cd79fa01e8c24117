package queue

import (
	"encoding/json"
	"strconv"

	"taskcluster/internal/events"
)

// Messages are rendered once, by hand, in the transaction that causes them.

// publish adds a message about a task: the routing key names the run and the
// worker that the message names, CC has the task's routes.
func (o *op) publish(exchange string, t *task, runID int, r *run, payload []byte) {
	o.s.log.Publish(o.tx, events.Event{
		Exchange: exchangePrefix + exchange,
		Key:      taskRoutingKey(t, runID, r),
		CC:       routeKeys(t.routes),
		Payload:  payload,
	})
}

// taskRoutingKey is what the exchange's RoutingKey would give. runID is -1 and
// r nil when the message is not about a run, or not about a claimed one.
func taskRoutingKey(t *task, runID int, r *run) string {
	var buf [256]byte
	b := append(buf[:0], "primary."...)
	b = t.id.AppendTo(b)
	if runID >= 0 {
		b = strconv.AppendInt(append(b, '.'), int64(runID), 10)
	} else {
		b = append(b, "._"...)
	}
	if r != nil && r.workerID != "" {
		b = append(append(b, '.'), r.workerGroup...)
		b = append(append(b, '.'), r.workerID...)
	} else {
		b = append(b, "._._"...)
	}
	provisioner, workerType := splitQueue(t.queue)
	b = append(append(b, '.'), provisioner...)
	b = append(append(b, '.'), workerType...)
	b = append(append(b, '.'), t.scheduler...)
	b = t.group.AppendTo(append(b, '.'))
	return string(append(b, "._"...))
}

// routeKeys are the CC keys for a JSON array of routes.
func routeKeys(routes []byte) []string {
	if len(routes) <= 2 {
		return nil
	}
	var cc []string
	if json.Unmarshal(routes, &cc) != nil {
		return nil // it passed the schema
	}
	for i := range cc {
		cc[i] = "route." + cc[i]
	}
	return cc
}

// message begins a payload: status and tags.
func (t *task) message() []byte {
	b := make([]byte, 0, 900+len(t.tags)+400*len(t.past))
	b = append(b, `{"status":`...)
	return t.appendTags(t.appendStatus(b))
}

func (t *task) appendTags(b []byte) []byte {
	b = append(b, `,"task":{"tags":`...)
	b = append(b, t.tags...)
	return append(b, '}')
}

const version = `,"version":1}`

func appendRunID(b []byte, id int) []byte {
	return strconv.AppendInt(append(b, `,"runId":`...), int64(id), 10)
}

func (o *op) publishDefined(t *task) {
	b := make([]byte, 0, 700+len(t.tags))
	b = append(b, `{"status":`...)
	b = t.appendTags(t.appendDefinedStatus(b))
	o.publish("task-defined", t, -1, nil, append(b, version...))
}

// publishPending is about the last run.
func (o *op) publishPending(t *task) {
	b := appendRunID(t.message(), t.last.id)
	o.publish("task-pending", t, t.last.id, nil, append(b, version...))
}

// publishRunning is about the last run.
func (o *op) publishRunning(t *task) {
	b := appendRunID(t.message(), t.last.id)
	b = t.last.appendWorker(b)
	b = appendTime(b, "takenUntil", t.last.takenUntil)
	o.publish("task-running", t, t.last.id, &t.last, append(b, version...))
}

// publishResolved is about a run that was resolved, and possibly followed by
// another one since.
func (o *op) publishResolved(t *task, r *run) {
	worker := r
	if r.reasonResolved == reasonDeadlineExceeded {
		worker = nil // published so, even when a worker was busy with it
	}
	b := appendRunID(t.message(), r.id)
	if worker != nil {
		b = worker.appendWorker(b)
	}
	exchange := "task-exception"
	switch r.state {
	case completed:
		exchange = "task-completed"
	case failed:
		exchange = "task-failed"
	}
	o.publish(exchange, t, r.id, worker, append(b, version...))
}

func (o *op) publishPriority(t *task, old priority) {
	b := make([]byte, 0, 1024)
	b = append(b, `{"status":`...)
	b = t.appendStatus(b)
	b = append(b, `,"oldPriority":"`...)
	b = append(b, old.String()...)
	b = append(b, `","newPriority":"`...)
	b = append(b, t.priority.String()...)
	o.publish("task-priority-changed", t, -1, nil, append(b, `","version":1}`...))
}

func (o *op) publishArtifact(t *task, r *run, a *artifact) {
	b := make([]byte, 0, 1024)
	b = append(b, `{"status":`...)
	b = t.appendStatus(b)
	b = append(b, `,"artifact":{"storageType":"`...)
	b = append(b, a.storageType...)
	b = append(b, `","name":`...)
	b = appendString(b, a.name)
	b = appendTime(b, "expires", a.expires)
	b = append(b, `,"contentType":`...)
	b = appendString(b, a.contentType)
	b = append(b, '}')
	b = appendRunID(r.appendWorker(b), r.id)
	o.publish("artifact-created", t, r.id, r, append(b, version...))
}

// publishGroup publishes a message that is just the group.
func (o *op) publishGroup(exchange string, g *group) {
	b := append(g.appendMembers(append(make([]byte, 0, 256), '{')), version...)
	o.publishAboutGroup(exchange, g, b)
}

func (o *op) publishGroupPriority(g *group, p priority, affected int) {
	b := append(make([]byte, 0, 256), `{"taskGroupId":"`...)
	b = g.id.AppendTo(b)
	b = append(b, `","schedulerId":"`...)
	b = append(b, g.scheduler...)
	b = append(b, `","newPriority":"`...)
	b = append(b, p.String()...)
	b = append(b, `","tasksAffected":`...)
	b = strconv.AppendInt(b, int64(affected), 10)
	o.publishAboutGroup("task-group-priority-changed", g, append(b, version...))
}

func (o *op) publishAboutGroup(exchange string, g *group, payload []byte) {
	o.s.log.Publish(o.tx, events.Event{
		Exchange: exchangePrefix + exchange,
		Key:      "primary." + g.id.String() + "." + g.scheduler + "._",
		Payload:  payload,
	})
}

// appendString appends s as a JSON string.
func appendString(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			text, _ := json.Marshal(s) // marshalling a string cannot fail
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
