-- What ended badly is rare among what was delivered, and is what one looks for.
CREATE INDEX emails_ended_badly ON emails (customer_id, created_at DESC, id DESC) WHERE status IN ('bounced', 'failed', 'canceled') AND deleted_at IS NULL;

-- Statistics take a stretch of time, deleted e-mails included, which emails_list leaves
-- out. E-mails come in the order of time, so this costs next to nothing.
CREATE INDEX emails_created ON emails USING brin (created_at) WITH (pages_per_range = 16);

-- Rows that change soon after they were written: with room on their pages, a change
-- touches no index.
ALTER TABLE recipients SET (fillfactor = 70);
ALTER TABLE delivery_attempts SET (fillfactor = 50);
