-- Who did what: one row per commit, holding a JSON array of entries.
CREATE TABLE api_audit (
  id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      BIGINT NOT NULL,
  entries BYTEA NOT NULL
);
CREATE INDEX api_audit_at ON api_audit (at);
