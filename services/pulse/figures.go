package pulse

import (
	"context"

	"taskcluster/internal/store"
)

// Figures are what the service counts in the database.
type Figures struct {
	Namespaces int64
	Behind     int64 // of which RabbitMQ may not know what is stored
	Mails      int64 // that wait to be sent
}

// Figures reads them.
func (s *Service) Figures(ctx context.Context) (f Figures, err error) {
	err = s.store.Read(ctx, func(tx *store.Tx) error {
		if err := tx.Row(stmt.figures).Scan(&f.Namespaces, &f.Behind); err != nil {
			return err
		}
		return tx.Row(stmt.waitingMails).Scan(&f.Mails)
	})
	return f, err
}

// MonitorFailures is how many looks at the broker have failed in this process.
func (s *Service) MonitorFailures() int64 { return s.failures.Load() }
