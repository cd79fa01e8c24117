package queue

// cancel ends a task that is not resolved. A cancellation that is repeated is
// told again; any other resolution stands.
func (o *op) cancel(t *task) (refusal, err error) {
	switch {
	case !t.state().resolved():
		return nil, o.end(t, reasonCanceled)
	case t.last.reasonResolved == reasonCanceled:
		o.publishResolved(t, &t.last)
		return nil, o.resolved(t, false)
	}
	return nil, nil
}

// end resolves a task that is not resolved as an exception. One that never ran
// gets a run, to show why.
func (o *op) end(t *task, why reason) error {
	if t.state() != unscheduled {
		_, err := o.resolve(t, exception, why)
		return err
	}
	o.c.resolved = append(o.c.resolved, resolutionKey{t.queue, exception, why})
	t.last = run{id: 0, state: exception, reasonCreated: reasonException, reasonResolved: why, scheduled: o.now, resolved: o.now}
	first := !t.everResolved
	t.everResolved = true
	if err := o.save(t); err != nil {
		return err
	}
	o.publishResolved(t, &t.last)
	return o.resolved(t, first)
}
