-- Identifiers are ordered byte by byte (collation C), on every engine alike.
CREATE TABLE auth_clients (
  client_id            TEXT COLLATE "C" PRIMARY KEY,
  description          TEXT NOT NULL,
  access_token         BYTEA NOT NULL, -- sealed by the key ring, bound to client_id
  expires              BIGINT NOT NULL,
  disabled             BIGINT NOT NULL,
  scopes               BYTEA NOT NULL, -- JSON array, in the order given
  delete_on_expiration BIGINT NOT NULL,
  created              BIGINT NOT NULL,
  last_modified        BIGINT NOT NULL,
  last_date_used       BIGINT NOT NULL,
  last_rotated         BIGINT NOT NULL
);

CREATE INDEX auth_clients_expiring ON auth_clients (expires) WHERE delete_on_expiration = 1;

CREATE TABLE auth_roles (
  role_id       TEXT COLLATE "C" PRIMARY KEY,
  description   TEXT NOT NULL,
  scopes        BYTEA NOT NULL, -- JSON array
  created       BIGINT NOT NULL,
  last_modified BIGINT NOT NULL
);

-- One row. Roles are valid only together, so whoever changes one proves with
-- the version that the others are still those which he looked at.
CREATE TABLE auth_role_set (
  version BIGINT NOT NULL
);
INSERT INTO auth_role_set (version) VALUES (0);

-- What was done once and must not be done again, such as making a first role.
CREATE TABLE auth_marks (
  name TEXT PRIMARY KEY
);

CREATE TABLE audit_history (
  id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  entity_type TEXT COLLATE "C" NOT NULL,
  entity_id   TEXT COLLATE "C" NOT NULL,
  client_id   TEXT COLLATE "C" NOT NULL, -- who did it
  action_type TEXT NOT NULL,
  created     BIGINT NOT NULL
);

CREATE INDEX audit_history_entity ON audit_history (entity_type, entity_id, created, id);
CREATE INDEX audit_history_client ON audit_history (client_id, created, id);
CREATE INDEX audit_history_created ON audit_history (created);
