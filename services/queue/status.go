package queue

import (
	"strconv"

	"taskcluster/internal/clock"
)

// The append functions render what the API and the events show. They use no
// reflection: a status is rendered for every reply and every event.

// appendStatus appends the published status structure.
func (t *task) appendStatus(b []byte) []byte {
	b = t.appendStatusHead(b, t.retriesLeft, t.state())
	if t.last.id >= 0 {
		for i := range t.past {
			b = append(t.past[i].appendRun(b), ',')
		}
		b = t.last.appendRun(b)
	}
	return append(b, "]}"...)
}

// appendDefinedStatus appends the status as it was before the task was
// scheduled, which is what task-defined shows.
func (t *task) appendDefinedStatus(b []byte) []byte {
	return append(t.appendStatusHead(b, t.retries, unscheduled), "]}"...)
}

func (t *task) appendStatusHead(b []byte, retriesLeft int, s state) []byte {
	provisioner, workerType := splitQueue(t.queue)
	b = append(b, `{"taskId":"`...)
	b = t.id.AppendTo(b)
	b = append(b, `","provisionerId":"`...)
	b = append(b, provisioner...)
	b = append(b, `","workerType":"`...)
	b = append(b, workerType...)
	b = append(b, `","taskQueueId":"`...)
	b = append(b, t.queue...)
	b = append(b, `","schedulerId":"`...)
	b = append(b, t.scheduler...)
	b = append(b, `","projectId":"`...)
	b = append(b, t.project...)
	b = append(b, `","taskGroupId":"`...)
	b = t.group.AppendTo(b)
	b = append(b, `","priority":"`...)
	b = append(b, t.priority.String()...)
	b = appendTime(append(b, '"'), "deadline", t.deadline)
	b = appendTime(b, "expires", t.expires)
	b = append(b, `,"retriesLeft":`...)
	b = strconv.AppendInt(b, int64(retriesLeft), 10)
	b = append(b, `,"state":"`...)
	b = append(b, s.String()...)
	return append(b, `","runs":[`...)
}

func (r *run) appendRun(b []byte) []byte {
	b = append(b, `{"runId":`...)
	b = strconv.AppendInt(b, int64(r.id), 10)
	b = append(b, `,"state":"`...)
	b = append(b, r.state.String()...)
	b = append(b, `","reasonCreated":"`...)
	b = append(b, r.reasonCreated.String()...)
	b = append(b, '"')
	if r.reasonResolved != noReason {
		b = append(b, `,"reasonResolved":"`...)
		b = append(b, r.reasonResolved.String()...)
		b = append(b, '"')
	}
	b = r.appendWorker(b)
	b = appendTime(b, "takenUntil", r.takenUntil)
	b = appendTime(b, "scheduled", r.scheduled)
	b = appendTime(b, "started", r.started)
	b = appendTime(b, "resolved", r.resolved)
	return append(b, '}')
}

// appendWorker appends the worker that claimed the run, if one did.
func (r *run) appendWorker(b []byte) []byte {
	if r.workerID == "" {
		return b
	}
	b = append(b, `,"workerGroup":"`...)
	b = append(b, r.workerGroup...)
	b = append(b, `","workerId":"`...)
	b = append(b, r.workerID...)
	return append(b, '"')
}

// appendTime appends a member with a comma before it, unless at is not set.
func appendTime(b []byte, name string, at clock.Time) []byte {
	if at.IsZero() {
		return b
	}
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	b = at.Append(b)
	return append(b, '"')
}

// statusReply is the answer of most methods.
func (t *task) statusReply() []byte {
	b := make([]byte, 0, 1024)
	b = append(b, `{"status":`...)
	return append(t.appendStatus(b), '}')
}
