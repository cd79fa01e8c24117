-- All events of one commit, encoded (package events, codec.go).
CREATE TABLE events_log (
  id     INTEGER NOT NULL PRIMARY KEY,
  time   INTEGER NOT NULL,
  events BLOB    NOT NULL
);

-- How far each durable consumer has come, and when it last said so.
CREATE TABLE events_cursors (
  name     TEXT    NOT NULL PRIMARY KEY,
  position INTEGER NOT NULL,
  updated  INTEGER NOT NULL
) WITHOUT ROWID;

-- Messages that a consumer could not handle.
CREATE TABLE events_dead_letters (
  id       INTEGER NOT NULL PRIMARY KEY,
  consumer TEXT    NOT NULL,
  position INTEGER NOT NULL,
  time     INTEGER NOT NULL,
  event    BLOB    NOT NULL,
  attempts INTEGER NOT NULL,
  error    TEXT    NOT NULL,
  died     INTEGER NOT NULL,
  replay   INTEGER NOT NULL,
  UNIQUE (consumer, position)
);
