-- Objects. Times are microseconds since 1970, slugids 16-byte blobs.
CREATE TABLE objects (
  id             INTEGER PRIMARY KEY,
  name           TEXT    NOT NULL UNIQUE,
  project_id     TEXT    NOT NULL,
  backend_id     TEXT    NOT NULL,
  expires        INTEGER NOT NULL,
  upload_id      BLOB UNIQUE,          -- NULL once the upload is finished
  upload_expires INTEGER,              -- likewise
  hashes         BLOB    NOT NULL,     -- JSON object, value by algorithm
  due            INTEGER NOT NULL,     -- when it is to be removed
  removing       INTEGER NOT NULL DEFAULT 0 -- its data is being deleted, so nobody sees it
);
CREATE INDEX objects_due ON objects (due, id);
