DROP TABLE wakes;
ALTER TABLE email_events DROP COLUMN holder;
ALTER TABLE batches DROP COLUMN held_by_customer, DROP COLUMN held_by_operator;
ALTER TABLE emails DROP COLUMN held_by_customer, DROP COLUMN held_by_operator;
