-- What the DNS says of a domain over time. verified_at stays what acceptance reads: while it is set,
-- the customer sends from the domain. An older version writes verified_at alone, as an operator's flag.
ALTER TABLE domains
    ADD COLUMN status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'verified', 'warning', 'failed')),
    ADD COLUMN status_since timestamptz NOT NULL DEFAULT now(),
    -- Who set verified_at.
    ADD COLUMN verified_by text CHECK (verified_by IN ('dns', 'operator')),
    -- When the checks of a pending domain began, and how many there were since.
    ADD COLUMN started_at timestamptz,
    ADD COLUMN checks integer NOT NULL DEFAULT 0,
    -- Definite misses since first_miss_at, without a passed check in between.
    ADD COLUMN misses integer NOT NULL DEFAULT 0,
    ADD COLUMN first_miss_at timestamptz,
    ADD COLUMN checked_at timestamptz,
    -- NULL: there is no next check.
    ADD COLUMN next_check_at timestamptz,
    -- Until then a run is at work on the check that is due, or was woken for it.
    ADD COLUMN claimed_until timestamptz,
    -- The records of the last check, with what it found.
    ADD COLUMN records jsonb NOT NULL DEFAULT '[]',
    -- Why the domain is not verified although its records are right.
    ADD COLUMN blocked_by text CHECK (blocked_by IN ('operator', 'other_customer')),
    -- Counts the changes of this state. A check that ran beside a change is not saved.
    ADD COLUMN revision bigint NOT NULL DEFAULT 0;
UPDATE domains SET status_since = coalesce(verified_at, created_at), verified_by = CASE WHEN verified_at IS NOT NULL THEN 'operator' END;
CREATE INDEX domains_due ON domains (next_check_at) WHERE next_check_at IS NOT NULL;

-- The operator has taken the verification back: only the operator verifies the domain again. After
-- a customer has deleted its domain, a check of the DNS does too.
ALTER TABLE domain_locks ADD COLUMN by_operator boolean NOT NULL DEFAULT true;

CREATE TABLE dkim_keys (
    id                 uuid PRIMARY KEY,
    domain_id          uuid NOT NULL REFERENCES domains (id) ON DELETE CASCADE,
    -- The domain's name, because selectors are unique among all customers' domains of a name.
    domain             text NOT NULL,
    selector           text NOT NULL,
    -- The two keys made together have one number.
    generation         integer NOT NULL,
    algorithm          text NOT NULL CHECK (algorithm IN ('rsa', 'ed25519')),
    -- The value of the TXT record.
    record             text NOT NULL,
    -- NULL once the key is revoked: it is destroyed then.
    private_key_sealed bytea,
    state              text NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'revoked')),
    since              timestamptz NOT NULL,
    -- The first of the latest checks that all have found the record.
    seen_at            timestamptz,
    UNIQUE (domain, selector),
    CHECK ((state = 'revoked') = (private_key_sealed IS NULL))
);
CREATE INDEX dkim_keys_domain ON dkim_keys (domain_id, generation DESC);

-- The last number of the selectors of a name. It outlives the domain by 90 days: until then no
-- selector is used twice.
CREATE TABLE dkim_selectors (
    domain  text PRIMARY KEY,
    last    integer NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX dkim_selectors_used ON dkim_selectors (used_at);

-- How many checks a customer has asked for in a minute.
CREATE TABLE domain_requests (
    customer_id uuid PRIMARY KEY REFERENCES customers (id) ON DELETE CASCADE,
    minute      timestamptz NOT NULL,
    requests    integer NOT NULL
);

-- The scope domains.
ALTER TABLE access_keys DROP CONSTRAINT access_keys_scopes_check;
ALTER TABLE access_keys ADD CONSTRAINT access_keys_scopes_check CHECK (scopes <@ ARRAY['emails:send', 'emails:read', 'emails:manage', 'webhooks', 'domains', 'mailboxes', 'admin']);
