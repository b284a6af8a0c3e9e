-- The pace of a relay, shared by all processes: who takes the next place moves
-- next_at on by one pace.
CREATE TABLE rates (
    name    text PRIMARY KEY CHECK (name <> ''),
    pace_us bigint NOT NULL CHECK (pace_us > 0),
    next_at timestamptz NOT NULL
);

-- The e-mail has a place in a relay's queue, and this is when its turn comes.
ALTER TABLE emails ADD COLUMN throttled_until timestamptz;

-- What a key may do beyond its customer's own affairs.
ALTER TABLE access_keys ADD COLUMN scopes text[] NOT NULL DEFAULT '{}' CHECK (scopes <@ ARRAY['emails:send', 'emails:read', 'emails:manage', 'webhooks', 'mailboxes', 'admin']);

-- What is not finished, for those who watch over it.
CREATE INDEX emails_open ON emails (created_at) WHERE status IN ('queued', 'sending');
