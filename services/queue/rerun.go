package queue

// rerun gives a task another run, and its retries back. While a run is pending
// or running there is no need to.
func (o *op) rerun(t *task) (refusal, err error) {
	switch {
	case t.state() == running:
		return nil, nil
	case t.state() == pending:
		o.publishPending(t)
		return nil, nil
	case t.last.id+1 >= maxRuns:
		return conflict("Maximum number of runs reached (%d).", maxRuns), nil
	}
	runs := t.last.id + 2 // with the new one
	t.retriesLeft = min(t.retries, maxRuns-runs)
	return nil, o.makePending(t, reasonRerun)
}
