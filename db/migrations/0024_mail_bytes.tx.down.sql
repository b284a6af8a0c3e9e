ALTER TABLE relay_states DROP COLUMN mail_bytes;
