package store

import "context"

// Batch hands operations of one kind that wait together to one function, as a
// slice, so that it can use one statement for many.
type Batch[T any] struct {
	store *Store
	name  string
	fn    func(tx *Tx, items []*T) error
	items []*T // scratch, used by the writer only
}

// NewBatch makes a Batch. The name is for messages. What Store.Write says of
// its function holds for run: it may run more than once, with other
// companions, and sets each item's result afresh. An item's own outcome
// (a result, a refusal) is a field of the item; an error means that the whole
// slice is undone and each item is tried alone, so that only the one that
// causes the error gets it. run must not keep the slice.
func NewBatch[T any](s *Store, name string, run func(tx *Tx, items []*T) error) *Batch[T] {
	return &Batch[T]{store: s, name: name, fn: run}
}

// Do has item run in a transaction, together with the other items that wait,
// and returns after it is durable. See Store.Write for ctx. After a withdrawal
// item is not touched.
func (b *Batch[T]) Do(ctx context.Context, item *T) error {
	return b.store.writer.submit(ctx, b, nil, item)
}

// String is the batch's name.
func (b *Batch[T]) String() string { return b.name }

func (b *Batch[T]) run(tx *Tx, ops []*operation) error {
	b.items = b.items[:0]
	for _, op := range ops {
		b.items = append(b.items, op.item.(*T))
	}
	defer clear(b.items)
	return b.fn(tx, b.items)
}
