ALTER TABLE pauses DROP COLUMN set_by;
DELETE FROM pauses WHERE scope = 'domain_stream';
ALTER TABLE pauses DROP CONSTRAINT pauses_scope_check;
ALTER TABLE pauses ADD CONSTRAINT pauses_scope_check CHECK (scope IN ('installation', 'customer', 'stream', 'relay'));
DROP TABLE reputation_states, reputation_cursors, reputation_days;
