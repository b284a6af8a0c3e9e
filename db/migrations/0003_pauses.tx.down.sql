ALTER TABLE emails DROP COLUMN paused, DROP COLUMN paused_relay;
DROP TABLE pauses;
