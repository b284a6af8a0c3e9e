ALTER TABLE emails DROP COLUMN batch_id, DROP COLUMN batch_index;
DROP TABLE batches;
