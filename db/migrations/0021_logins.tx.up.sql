-- A login token holds its user's token_version: a higher one ends all tokens from before.
ALTER TABLE users ADD COLUMN token_version integer NOT NULL DEFAULT 0;

-- Domains whose verification the operator took back: nobody sends from one until it is
-- verified for a customer. customer_id is who had it last.
CREATE TABLE domain_locks (
    name        text PRIMARY KEY CHECK (name = lower(name) AND name <> ''),
    customer_id uuid NOT NULL,
    locked_at   timestamptz NOT NULL DEFAULT now()
);
