package store

import "slices"

// Inside, for tests of this package from outside it.
var (
	Renumber = renumber
	Writes   = writes
)

// OwnStatements are those that the store itself uses.
func OwnStatements() []*Stmt {
	return slices.Concat(Statements(leaseStmt), Statements(factStmt), Statements(migrateStmt))
}

// BookkeepingTable is the text that makes the table of applied migrations.
func BookkeepingTable(dialect string) string { return migrateStmt.table.Text(dialect) }
