-- What runs that bring their message themselves have had accepted: the same
-- message under the same name is one e-mail, for as long as that is there.
CREATE TABLE direct_starts (
    customer_id uuid NOT NULL REFERENCES customers (id),
    namespace   text NOT NULL CHECK (namespace <> ''),
    -- Whether name is the workflow id or a key of the caller's.
    keyed       boolean NOT NULL,
    name        text NOT NULL CHECK (name <> ''),
    workflow_id text NOT NULL CHECK (workflow_id <> ''),
    run_id      text NOT NULL CHECK (run_id <> ''),
    fingerprint text NOT NULL CHECK (fingerprint <> ''),
    email_id    uuid NOT NULL REFERENCES emails (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (customer_id, namespace, keyed, name),
    CHECK (keyed OR name = workflow_id)
);
CREATE INDEX direct_starts_workflow ON direct_starts (workflow_id);
CREATE INDEX direct_starts_email ON direct_starts (email_id);
