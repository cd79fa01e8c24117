-- What a task says with extra.concurrency: the project, a space and the key, and
-- the limit; empty and 0 when it says nothing.
ALTER TABLE tasks ADD COLUMN concurrency_key   TEXT    NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN concurrency_limit BIGINT  NOT NULL DEFAULT 0;
