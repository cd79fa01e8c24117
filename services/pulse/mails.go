package pulse

import (
	"context"
	"errors"
	"fmt"
	"time"

	"taskcluster/internal/clock"
	"taskcluster/internal/mail"
	"taskcluster/internal/slugid"
	"taskcluster/internal/store"
)

const (
	// maxMails is how many mails about one namespace are sent in a day, and maxMailsTo
	// how many to one address: whoever claims namespaces names one, which need not be
	// his, and makes queues as he likes.
	maxMails, maxMailsTo = 50, 100
	// mailsAtOnce is how many are sent behind one look at the broker, and
	// deliverTime bounds that. After maxFailed that failed the others wait, for
	// the server is likely away.
	mailsAtOnce, deliverTime, maxFailed = 100, 45 * time.Second, 3
	// A mail that could not be sent is tried again after firstRetry, then after
	// twice as long, at most lastRetry, and given up after giveUp.
	firstRetry, lastRetry, giveUp = time.Minute, time.Hour, 24 * time.Hour
)

// tell stores the mail about a change of a queue's state, in the transaction that
// stores the change.
func (s *Service) tell(tx *store.Tx, v verdict) error {
	if v.namespace.contact == "" || s.mail == nil {
		return nil
	}
	var about, to int
	since := tx.Now().Add(-24 * time.Hour)
	if err := tx.Row(stmt.count, v.namespace.name, since, v.namespace.contact, since).Scan(&about, &to); err != nil {
		return err
	}
	if about >= maxMails || to >= maxMailsTo {
		s.logger.Warn("the contact of a namespace is not told of a queue: there were too many mails about the namespace, or to this address, within a day",
			"namespace", v.namespace.name, "queue", v.Name, "state", v.state, "about", about, "to", to)
		return nil
	}
	subject, content := s.describe(v)
	_, err := tx.Exec(stmt.addMail, "pulse-"+slugid.Nice().String(), v.namespace.name, v.namespace.contact, subject, content, tx.Now(), tx.Now())
	return err
}

// describe is what a mail says. The queue's name is its owner's choice, so that
// in the text it is quoted.
func (s *Service) describe(v verdict) (subject, content string) {
	has := fmt.Sprintf("The queue %q of the namespace %s has %d messages.", v.Name, v.namespace.name, *v.Messages)
	switch v.state {
	case danger:
		return v.Name + " has been deleted!", fmt.Sprintf("%s More than %d are not allowed, so it has been deleted, with all of them.\n\n"+
			"Declare it anew when what reads it works again.\n", has, s.dropAbove)
	case warning:
		return v.Name + " is in danger of being deleted!", fmt.Sprintf("%s That is more than %d, and with more than %d it is deleted.\n\n"+
			"Has the program that reads it crashed, or is it too slow?\n", has, s.alertAbove, s.dropAbove)
	}
	return v.Name + " has returned to a safe state", fmt.Sprintf("%s It is not in danger any more: up to %d are fine.\n", has, s.alertAbove)
}

// waiting is a mail that is to be sent.
type waiting struct {
	row       int64
	namespace string
	message   mail.Message
	created   clock.Time
	attempts  int
}

// deliver sends the mails that are due. A mail is done when the server has taken
// it; when the process ends before that is stored, it is sent again.
func (s *Service) deliver(ctx context.Context) error {
	if s.mail == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, deliverTime)
	defer cancel()
	var due []waiting
	err := s.store.ReadOne(ctx, func(tx *store.Tx) error {
		due = nil
		rows := tx.Query(stmt.dueMails, s.clock.Now(), mailsAtOnce)
		defer rows.Close()
		for rows.Next() {
			var w waiting
			if err := rows.Scan(&w.row, &w.message.ID, &w.namespace, &w.message.To, &w.message.Subject, &w.message.Text, &w.created, &w.attempts); err != nil {
				return err
			}
			due = append(due, w)
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	var failed []error
	for _, w := range due {
		if len(failed) == maxFailed {
			break
		}
		err := s.mail.Send(ctx, w.message)
		if err != nil && ctx.Err() != nil {
			return errors.Join(append(failed, context.Cause(ctx))...) // its turn comes again
		}
		next := s.after(w, err)
		if err != nil {
			if next == nil {
				s.logger.Error("a mail about a namespace's queue is given up", "namespace", w.namespace, "attempts", w.attempts+1, "error", err.Error())
			} else {
				failed = append(failed, err)
			}
		}
		storeErr := s.store.Write(ctx, func(tx *store.Tx) (err error) {
			if next == nil {
				_, err = tx.Exec(stmt.sent, w.row)
			} else {
				_, err = tx.Exec(stmt.later, *next, w.row)
			}
			return err
		})
		if storeErr != nil {
			return errors.Join(append(failed, storeErr)...)
		}
	}
	return errors.Join(failed...)
}

// after is when a mail is to be tried again; nil when it was sent or is given up.
func (s *Service) after(w waiting, err error) *clock.Time {
	now := s.clock.Now()
	if err == nil || mail.Permanent(err) || now.Sub(w.created) > giveUp {
		return nil
	}
	pause := lastRetry
	if w.attempts < 6 {
		pause = min(firstRetry<<w.attempts, lastRetry)
	}
	next := now.Add(pause)
	return &next
}
