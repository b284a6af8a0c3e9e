-- Runs are started by stream, and round robin by customer. The columns say of what is to be
-- started whose it is; rows of an older version count as one customer's transactional mail.
ALTER TABLE outbox
    ADD COLUMN stream text NOT NULL DEFAULT 'transactional',
    ADD COLUMN customer_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000';
UPDATE outbox AS o SET stream = e.stream, customer_id = e.customer_id FROM emails AS e WHERE e.id = o.email_id;
DROP INDEX outbox_due;
CREATE INDEX outbox_turns ON outbox (stream, customer_id, lease_until);

-- The stream of the most urgent e-mail.
ALTER TABLE batches ADD COLUMN stream text NOT NULL DEFAULT 'transactional';
UPDATE batches AS b SET stream = 'broadcast' WHERE lease_until IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM emails AS e WHERE e.batch_id = b.id AND e.stream <> 'broadcast');
DROP INDEX batches_start;
CREATE INDEX batches_turns ON batches (stream, customer_id, lease_until) WHERE lease_until IS NOT NULL;
