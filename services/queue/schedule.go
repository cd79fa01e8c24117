package queue

// schedule makes a task pending that waits for its dependencies, whatever
// their state. A task that was scheduled before is left as it is.
func (o *op) schedule(t *task) (refusal, err error) {
	if t.state() != unscheduled {
		return nil, nil
	}
	return nil, o.makePending(t, reasonScheduled)
}
