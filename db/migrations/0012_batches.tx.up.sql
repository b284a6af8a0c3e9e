-- Many e-mails that came in one request. Each is an e-mail like any other; the
-- batch's run owns those whose workflow_id names it.
CREATE TABLE batches (
    id          uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    mode        text NOT NULL CHECK (mode IN ('strict', 'permissive')),
    total       integer NOT NULL CHECK (total > 0),
    refused     jsonb NOT NULL DEFAULT '[]',
    held        boolean NOT NULL DEFAULT false,
    -- The order to start its run, as in outbox; null once the run is there.
    lease_owner uuid,
    lease_until timestamptz,
    -- When its run last looked: one that works through a long batch is not overdue.
    seen_at     timestamptz NOT NULL,
    created_at  timestamptz NOT NULL
);
CREATE INDEX batches_start ON batches (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX batches_list ON batches (customer_id, created_at DESC, id DESC);

ALTER TABLE emails
    ADD COLUMN batch_id uuid REFERENCES batches (id),
    -- The item's place in the request, from 0.
    ADD COLUMN batch_index integer,
    ADD CONSTRAINT emails_batch_check CHECK ((batch_id IS NULL) = (batch_index IS NULL));
CREATE UNIQUE INDEX emails_batch ON emails (batch_id, batch_index) WHERE batch_id IS NOT NULL;
-- What a batch's run takes next.
CREATE INDEX emails_batch_due ON emails (batch_id, next_action_at) WHERE batch_id IS NOT NULL AND next_action_at IS NOT NULL;
