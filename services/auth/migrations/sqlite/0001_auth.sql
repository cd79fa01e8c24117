CREATE TABLE auth_clients (
  client_id            TEXT PRIMARY KEY,
  description          TEXT NOT NULL,
  access_token         BLOB NOT NULL, -- sealed by the key ring, bound to client_id
  expires              INTEGER NOT NULL,
  disabled             INTEGER NOT NULL,
  scopes               BLOB NOT NULL, -- JSON array, in the order given
  delete_on_expiration INTEGER NOT NULL,
  created              INTEGER NOT NULL,
  last_modified        INTEGER NOT NULL,
  last_date_used       INTEGER NOT NULL,
  last_rotated         INTEGER NOT NULL
) WITHOUT ROWID;

CREATE INDEX auth_clients_expiring ON auth_clients (expires) WHERE delete_on_expiration = 1;

CREATE TABLE auth_roles (
  role_id       TEXT PRIMARY KEY,
  description   TEXT NOT NULL,
  scopes        BLOB NOT NULL, -- JSON array
  created       INTEGER NOT NULL,
  last_modified INTEGER NOT NULL
) WITHOUT ROWID;

-- One row. Roles are valid only together, so whoever changes one proves with
-- the version that the others are still those which he looked at.
CREATE TABLE auth_role_set (
  version INTEGER NOT NULL
);
INSERT INTO auth_role_set (version) VALUES (0);

-- What was done once and must not be done again, such as making a first role.
CREATE TABLE auth_marks (
  name TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE audit_history (
  id          INTEGER PRIMARY KEY,
  entity_type TEXT NOT NULL,
  entity_id   TEXT NOT NULL,
  client_id   TEXT NOT NULL, -- who did it
  action_type TEXT NOT NULL,
  created     INTEGER NOT NULL
);

CREATE INDEX audit_history_entity ON audit_history (entity_type, entity_id, created, id);
CREATE INDEX audit_history_client ON audit_history (client_id, created, id);
CREATE INDEX audit_history_created ON audit_history (created);
