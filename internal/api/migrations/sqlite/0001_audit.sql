-- Who did what: one row per commit, holding a JSON array of entries.
CREATE TABLE api_audit (
  id      INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  entries BLOB NOT NULL
);
CREATE INDEX api_audit_at ON api_audit (at);
