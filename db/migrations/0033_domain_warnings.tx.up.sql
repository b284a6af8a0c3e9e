-- When a customer was last warned that a server does not find the mail of a domain authenticated. The domain need not be
-- one of the customer's sender domains.
CREATE TABLE domain_warnings (
    customer_id uuid NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    domain      text NOT NULL,
    warned_at   timestamptz NOT NULL,
    PRIMARY KEY (customer_id, domain)
);
