-- The size that a refused MAIL command named: a probe names it again. 0 is not known.
ALTER TABLE relay_states ADD COLUMN mail_bytes bigint NOT NULL DEFAULT 0;
