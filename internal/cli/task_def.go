package cli

type taskDefCommand struct {
	oneTask
	remote
}

func (*taskDefCommand) Help() string {
	return "The definition is printed as JSON, with or without --json.\n\n" + examples(
		"taskcluster task def fN1SbArXTPSVFNUvaOlinQ",
		"taskcluster task def fN1SbArXTPSVFNUvaOlinQ | jq .payload")
}

// Run prints a task's definition.
func (c *taskDefCommand) Run(s *session) error {
	q, _, err := c.queue(s)
	if err != nil {
		return err
	}
	defer q.Close()
	task, err := q.Task(s.ctx, string(c.TaskID))
	if err != nil {
		return err
	}
	if task.TaskGroupID == "" || task.Payload == nil {
		return errUnexpected
	}
	return s.printJSON(task)
}
