-- How many events were removed from the log before the consumer had come past them.
ALTER TABLE events_cursors ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
