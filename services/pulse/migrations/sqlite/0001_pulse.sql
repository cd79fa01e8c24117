CREATE TABLE pulse_namespaces (
  id            INTEGER PRIMARY KEY,
  namespace     TEXT NOT NULL,
  created       INTEGER NOT NULL,
  expires       INTEGER NOT NULL,
  contact       TEXT NOT NULL,    -- '' for none
  active        INTEGER NOT NULL, -- 1 or 2: which of its two users is handed out
  password      BLOB NOT NULL,    -- of that user, sealed
  behind        INTEGER NOT NULL, -- how many of the users RabbitMQ may lack, or have with another password
  next_rotation INTEGER NOT NULL, -- when the other user is made active or, while behind, this one is looked after
  removing      INTEGER NOT NULL  -- 1 from the moment at which its users are being deleted
);

CREATE UNIQUE INDEX pulse_namespaces_namespace ON pulse_namespaces (namespace);
CREATE INDEX pulse_namespaces_next_rotation ON pulse_namespaces (next_rotation, id);
CREATE INDEX pulse_namespaces_expires ON pulse_namespaces (expires, id);

-- Queues that are longer than they should be. The others have no row.
CREATE TABLE pulse_queues (
  id      INTEGER PRIMARY KEY,
  name    BLOB NOT NULL, -- as the broker has it, any bytes
  state   TEXT NOT NULL, -- 'warning' or 'danger'
  updated INTEGER NOT NULL
);

CREATE UNIQUE INDEX pulse_queues_name ON pulse_queues (name);
CREATE INDEX pulse_queues_updated ON pulse_queues (updated);

-- Mails, kept for a day after they were sent, so that they can be counted.
CREATE TABLE pulse_mails (
  id        INTEGER PRIMARY KEY,
  message   TEXT NOT NULL, -- its id, the same whenever it is sent
  namespace TEXT NOT NULL,
  address   TEXT NOT NULL,
  subject   TEXT NOT NULL,
  content   TEXT NOT NULL,
  created   INTEGER NOT NULL,
  due       INTEGER,       -- when it is to be sent; NULL when that is done
  attempts  INTEGER NOT NULL
);

CREATE INDEX pulse_mails_due ON pulse_mails (due, id);
CREATE INDEX pulse_mails_created ON pulse_mails (created);
CREATE INDEX pulse_mails_namespace ON pulse_mails (namespace, created);
