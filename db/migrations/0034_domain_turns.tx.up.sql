-- Looks at the DNS take turns: a customer has a few places for them, and all customers together have some more.
ALTER TABLE domains
    -- Since when the check that is due waits for a place. NULL: it does not wait.
    ADD COLUMN queued_at timestamptz,
    -- When the domain was given a place last, and until when it has it at most. NULL: it has none.
    ADD COLUMN place_at timestamptz,
    ADD COLUMN place_until timestamptz,
    -- The latest checks in a row in which the DNS has not answered.
    ADD COLUMN unanswered integer NOT NULL DEFAULT 0;
DROP INDEX domains_due;
CREATE INDEX domains_due ON domains (next_check_at) WHERE next_check_at IS NOT NULL AND queued_at IS NULL;
CREATE INDEX domains_queued ON domains (customer_id, queued_at, id) WHERE queued_at IS NOT NULL;
CREATE INDEX domains_placed ON domains (customer_id, place_at DESC) WHERE place_at IS NOT NULL;
CREATE INDEX domains_places ON domains (place_until) WHERE place_until IS NOT NULL;

-- How many requests about domains of other customers an operator's customer has made in a minute.
CREATE TABLE operator_domain_requests (
    customer_id uuid PRIMARY KEY REFERENCES customers (id) ON DELETE CASCADE,
    minute      timestamptz NOT NULL,
    requests    integer NOT NULL
);
