-- What all who open the database must agree on.
CREATE TABLE store_facts (
  name  TEXT NOT NULL PRIMARY KEY,
  value BLOB NOT NULL
) WITHOUT ROWID;
