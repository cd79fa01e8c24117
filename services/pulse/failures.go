package pulse

import (
	"errors"
	"fmt"

	"taskcluster/services/pulse/management"
)

const (
	// maxSilent is how many calls RabbitMQ may leave unanswered or fail, in one round
	// of work, until the rest waits for the next round. What it cannot do with one
	// user or queue holds up no others.
	maxSilent = 3
	// maxTold is how many failures of a round are told one by one.
	maxTold = 10
)

// failures are what went wrong in one round of work.
type failures struct {
	told         []error
	more, silent int
}

// add notes a failure. What RabbitMQ answers to one call says nothing of others.
func (f *failures) add(err error) {
	if len(f.told) < maxTold {
		f.told = append(f.told, err)
	} else {
		f.more++
	}
	if !foreign(err) && !management.Refused(err) {
		f.silent++
	}
}

// enough tells whether the rest of the round has to wait.
func (f *failures) enough() bool { return f.silent >= maxSilent }

// err is all of them as one; nil if there are none.
func (f *failures) err() error {
	if f.more > 0 {
		return errors.Join(append(f.told[:maxTold:maxTold], fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.told...)
}
