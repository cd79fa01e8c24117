-- The client that claimed a namespace first, which it counts for.
ALTER TABLE pulse_namespaces ADD COLUMN claimed_by TEXT NOT NULL DEFAULT '';

CREATE INDEX pulse_namespaces_claimed_by ON pulse_namespaces (claimed_by);
