ALTER TABLE relay_states DROP COLUMN cause;
ALTER TABLE emails DROP COLUMN dated_at;
