-- A client's own name for a request, reserved in the transaction that accepts it.
CREATE TABLE idempotency_keys (
    customer_id uuid NOT NULL REFERENCES customers (id),
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 256),
    fingerprint text NOT NULL CHECK (fingerprint <> ''),
    email_id    uuid NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (customer_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
