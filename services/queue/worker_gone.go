package queue

import (
	"context"

	"taskcluster/internal/clock"
	"taskcluster/internal/store"
)

// goneChunk is how many runs of a worker that is gone one transaction resolves.
const goneChunk = 200

// WorkerGone resolves every run that a worker holds as exception
// worker-shutdown, just as if the worker had reported so itself: the task is
// tried again while it has retries left, otherwise it is resolved. It returns
// how many runs it resolved, which is none when it is told a second time.
//
// Runs that a worker of the same name claims after the call began are left
// alone. After an error what was resolved before it stays so; the call may be
// repeated.
func (s *Service) WorkerGone(ctx context.Context, taskQueueID, workerGroup, workerID string) (int, error) {
	resolved := 0
	var began clock.Time
	for {
		var held []int64
		err := s.store.Write(ctx, func(tx *store.Tx) (err error) {
			if began == 0 {
				began = tx.Now()
			}
			held, err = rowsOf(tx.Query(stmt.heldBy, taskQueueID, began, workerGroup, workerID, goneChunk))
			if err != nil || len(held) == 0 {
				return err
			}
			o := s.begin(tx)
			for _, row := range held {
				t, err := loadRow(tx, row)
				if err != nil {
					return err
				}
				if _, err := o.resolve(t, exception, reasonWorkerShutdown); err != nil {
					return err
				}
			}
			return o.finish()
		})
		if err != nil {
			return resolved, err
		}
		resolved += len(held)
		if len(held) < goneChunk {
			return resolved, nil
		}
	}
}
