-- Broadcast mail queues behind transactional mail: next_at is where the next place
-- is that holds, queue_at where broadcast's line of appointments ends.
ALTER TABLE rates ADD COLUMN queue_at timestamptz;

-- What an e-mail that is throttled waits for: relay:NAME, recipients:DOMAIN or
-- warmup:DOMAIN.
ALTER TABLE emails ADD COLUMN throttled_by text NOT NULL DEFAULT '';
CREATE INDEX emails_throttled ON emails (throttled_by, id) WHERE throttled_by <> '';

-- The place that a recipient has in such a queue.
ALTER TABLE recipients ADD COLUMN turn jsonb;

-- How many recipients a young sender's domain may have on each of its first days, in
-- UTC. From warmup_until on it is without limit.
ALTER TABLE domains
    ADD COLUMN warmup_plan integer[] CHECK (cardinality(warmup_plan) BETWEEN 1 AND 366 AND 1 <= ALL (warmup_plan)),
    ADD COLUMN warmup_from date,
    ADD COLUMN warmup_until date,
    ADD CHECK ((warmup_plan IS NULL) = (warmup_from IS NULL)),
    ADD CHECK ((warmup_plan IS NULL) = (warmup_until IS NULL)),
    ADD CHECK (warmup_until = warmup_from + cardinality(warmup_plan));
CREATE INDEX domains_warmup ON domains (warmup_until) WHERE warmup_plan IS NOT NULL;

-- The places given away on a day of such a plan; its lock is the domain's row.
CREATE TABLE warmup_days (
    domain_id     uuid NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    day           date NOT NULL,
    transactional integer NOT NULL DEFAULT 0 CHECK (transactional >= 0),
    broadcast     integer NOT NULL DEFAULT 0 CHECK (broadcast >= 0),
    PRIMARY KEY (domain_id, day)
);
