package bench

import (
	"context"
	"fmt"
	"time"
)

// depth compares claims from a short queue with claims from a long one.
func (b *bench) depth(ctx context.Context) (*Depth, error) {
	d := &Depth{Pending: b.Depth}
	short, long := "bench/short", b.queue
	var err error
	if d.None, err = b.claims(ctx, short); err != nil {
		return nil, err
	}
	before, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	b.queue = long
	if d.FillPerSecond, err = b.fill(ctx, b.Depth, ""); err != nil {
		return nil, err
	}
	after, err := b.figures(ctx)
	if err != nil {
		return nil, err
	}
	d.Growth = int64(after[resident] - before[resident])
	if d.Deep, err = b.claims(ctx, long); err != nil {
		return nil, err
	}
	if d.Beside, err = b.claims(ctx, short); err != nil {
		return nil, err
	}
	if d.None.P50 > 0 {
		d.Ratio = round(d.Deep.P50/d.None.P50, 2)
	}
	return d, nil
}

// resident is the server's figure of its resident memory, in bytes.
const resident = "process_resident_memory_bytes"

// claims creates a task and claims one, again and again, and says how long the
// claims took. As many tasks wait after it as before.
func (b *bench) claims(ctx context.Context, queue string) (Latency, error) {
	b.queue = queue
	c, err := b.dial() // the server ends what was idle while a queue was filled
	if err != nil {
		return Latency{}, err
	}
	defer c.c.Close()
	def := b.definition()
	var took []time.Duration
	for began := time.Now(); time.Since(began) < b.Duration && ctx.Err() == nil; {
		if err := b.createOne(c, def); err != nil {
			return Latency{}, err
		}
		sent := time.Now()
		tasks, err := b.claimWork(c, "w", 1)
		took = append(took, time.Since(sent))
		if err != nil {
			return Latency{}, err
		}
		if len(tasks) != 1 {
			return Latency{}, fmt.Errorf("%d tasks were claimed where one waits", len(tasks))
		}
		if err := b.complete(c, &tasks[0]); err != nil {
			return Latency{}, err
		}
	}
	return latency(took), ctx.Err()
}
