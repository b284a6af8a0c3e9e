DROP INDEX batches_turns;
CREATE INDEX batches_start ON batches (lease_until) WHERE lease_until IS NOT NULL;
ALTER TABLE batches DROP COLUMN stream;
DROP INDEX outbox_turns;
CREATE INDEX outbox_due ON outbox (lease_until);
ALTER TABLE outbox DROP COLUMN stream, DROP COLUMN customer_id;
