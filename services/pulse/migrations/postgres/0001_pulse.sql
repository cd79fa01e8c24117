CREATE TABLE pulse_namespaces (
  id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  namespace     TEXT COLLATE "C" NOT NULL,
  created       BIGINT NOT NULL,
  expires       BIGINT NOT NULL,
  contact       TEXT COLLATE "C" NOT NULL, -- '' for none
  active        BIGINT NOT NULL, -- 1 or 2: which of its two users is handed out
  password      BYTEA NOT NULL,  -- of that user, sealed
  behind        BIGINT NOT NULL, -- how many of the users RabbitMQ may lack, or have with another password
  next_rotation BIGINT NOT NULL, -- when the other user is made active or, while behind, this one is looked after
  removing      BIGINT NOT NULL  -- 1 from the moment at which its users are being deleted
);

CREATE UNIQUE INDEX pulse_namespaces_namespace ON pulse_namespaces (namespace);
CREATE INDEX pulse_namespaces_next_rotation ON pulse_namespaces (next_rotation, id);
CREATE INDEX pulse_namespaces_expires ON pulse_namespaces (expires, id);

-- Queues that are longer than they should be. The others have no row.
CREATE TABLE pulse_queues (
  id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name    BYTEA NOT NULL, -- as the broker has it, any bytes
  state   TEXT COLLATE "C" NOT NULL, -- 'warning' or 'danger'
  updated BIGINT NOT NULL
);

CREATE UNIQUE INDEX pulse_queues_name ON pulse_queues (name);
CREATE INDEX pulse_queues_updated ON pulse_queues (updated);

-- Mails, kept for a day after they were sent, so that they can be counted.
CREATE TABLE pulse_mails (
  id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  message   TEXT COLLATE "C" NOT NULL, -- its id, the same whenever it is sent
  namespace TEXT COLLATE "C" NOT NULL,
  address   TEXT COLLATE "C" NOT NULL,
  subject   TEXT COLLATE "C" NOT NULL,
  content   TEXT COLLATE "C" NOT NULL,
  created   BIGINT NOT NULL,
  due       BIGINT,       -- when it is to be sent; NULL when that is done
  attempts  BIGINT NOT NULL
);

CREATE INDEX pulse_mails_due ON pulse_mails (due, id);
CREATE INDEX pulse_mails_created ON pulse_mails (created);
CREATE INDEX pulse_mails_namespace ON pulse_mails (namespace, created);
