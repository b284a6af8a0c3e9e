DROP TABLE warmup_days;
DROP INDEX domains_warmup;
ALTER TABLE domains DROP COLUMN warmup_plan, DROP COLUMN warmup_from, DROP COLUMN warmup_until;
ALTER TABLE recipients DROP COLUMN turn;
DROP INDEX emails_throttled;
ALTER TABLE emails DROP COLUMN throttled_by;
ALTER TABLE rates DROP COLUMN queue_at;
