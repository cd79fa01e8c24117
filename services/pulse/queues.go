package pulse

import (
	"context"
	"fmt"

	"taskcluster/internal/store"
	"taskcluster/services/pulse/management"
)

// The states of a queue. A queue without a row is normal.
const (
	normal  = "normal"
	warning = "warning"
	danger  = "danger"
)

// changesAtOnce is how many changes of states are stored in one transaction.
const changesAtOnce = 100

// verdict is what is thought of a queue.
type verdict struct {
	management.Queue
	namespace *namespace
	state     string
}

func (s *Service) state(messages int64) string {
	switch {
	case messages > s.dropAbove:
		return danger
	case messages > s.alertAbove:
		return warning
	}
	return normal
}

// judgeQueues stores how the queues of namespaces are, with a mail where that has
// changed, and then deletes those that are too long. A state of which the mail
// says that the queue was deleted is stored first: a queue that is still there
// is deleted by the next look.
func (s *Service) judgeQueues(ctx context.Context, on *seen) error {
	before := map[string]string{}
	err := s.store.Read(ctx, func(tx *store.Tx) error {
		clear(before)
		rows := tx.Query(stmt.states)
		defer rows.Close()
		for rows.Next() {
			var name []byte
			var state string
			if err := rows.Scan(&name, &state); err != nil {
				return err
			}
			before[string(name)] = state
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	var changed, long []verdict
	for _, q := range on.queues.Items {
		n := on.namespaces[s.within(q.Name, queuePrefix)]
		if n == nil || q.Messages == nil {
			continue
		}
		v := verdict{q, n, s.state(*q.Messages)}
		if was, ok := before[q.Name]; was != v.state && (ok || v.state != normal) {
			changed = append(changed, v)
		}
		if v.state == danger {
			long = append(long, v)
		}
	}
	for len(changed) > 0 {
		some := changed[:min(len(changed), changesAtOnce)]
		changed = changed[len(some):]
		if err := s.store.Write(ctx, func(tx *store.Tx) error { return s.changeStates(tx, some) }); err != nil {
			return err
		}
	}
	for _, v := range long {
		s.end(on, "queue", v.Name, fmt.Sprintf("it has %d messages", *v.Messages), func() error {
			return s.broker.Management.DeleteQueue(ctx, s.vhost, v.Name)
		})
	}
	return nil
}

func (s *Service) changeStates(tx *store.Tx, changed []verdict) error {
	for _, v := range changed {
		var err error
		if v.state == normal {
			_, err = tx.Exec(stmt.normal, []byte(v.Name))
		} else {
			_, err = tx.Exec(stmt.setState, []byte(v.Name), v.state, tx.Now())
		}
		if err != nil {
			return err
		}
		if err := s.tell(tx, v); err != nil {
			return err
		}
	}
	return nil
}
