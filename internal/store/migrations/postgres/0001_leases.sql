-- Who may do a piece of background work, and until when (microseconds).
CREATE TABLE store_leases (
  name    TEXT   NOT NULL PRIMARY KEY,
  holder  TEXT   NOT NULL,
  expires BIGINT NOT NULL
);
