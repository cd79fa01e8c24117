package store

import (
	"context"
	"errors"
)

var factStmt = struct{ get, put *Stmt }{
	get: SQL(`SELECT value FROM store_facts WHERE name = ?`),
	put: SQL(`INSERT INTO store_facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`),
}

// Fact reads what all who open the database must agree on, nil when nobody has
// said yet.
func (s *Store) Fact(ctx context.Context, name string) (value []byte, err error) {
	err = s.ReadOne(ctx, func(tx *Tx) error { return tx.Row(factStmt.get, name).Scan(&value) })
	if errors.Is(err, ErrNoRows) {
		return nil, nil
	}
	return value, err
}

// Agree states a fact and returns what holds: value, or what somebody else has
// stated before.
func (s *Store) Agree(ctx context.Context, name string, value []byte) (holds []byte, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(factStmt.put, name, value); err != nil {
			return err
		}
		return tx.Row(factStmt.get, name).Scan(&holds)
	})
	return holds, err
}
