-- What became of recipients, by the day (UTC) of the event. The roll-up of email_events adds to it.
CREATE TABLE reputation_days (
    customer_id   uuid   NOT NULL REFERENCES customers (id),
    sender_domain text   NOT NULL,
    day           date   NOT NULL,
    stream        text   NOT NULL,
    provider      text   NOT NULL,
    sent          bigint NOT NULL DEFAULT 0,
    delivered     bigint NOT NULL DEFAULT 0,
    deferred      bigint NOT NULL DEFAULT 0,
    hard          bigint NOT NULL DEFAULT 0,
    soft          bigint NOT NULL DEFAULT 0,
    blocked       bigint NOT NULL DEFAULT 0,
    complained    bigint NOT NULL DEFAULT 0,
    unsubscribed  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (customer_id, sender_domain, day, stream, provider)
);
CREATE INDEX reputation_days_day ON reputation_days (day);

-- How far the roll-up has read the feed of each customer. It locks the row while it counts. The
-- events of before this migration are not counted.
CREATE TABLE reputation_cursors (
    customer_id  uuid        PRIMARY KEY REFERENCES customers (id),
    txid         xid8        NOT NULL DEFAULT '0',
    event_id     uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    -- Earlier events are not counted. It is set where the database was restored into another server,
    -- whose transaction ids begin anew.
    counted_from timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO reputation_cursors (customer_id, txid) SELECT id, pg_snapshot_xmin(pg_current_snapshot()) FROM customers;

-- The band of each sender domain, with the counts of the window that it was derived from.
CREATE TABLE reputation_states (
    customer_id    uuid        NOT NULL REFERENCES customers (id),
    domain         text        NOT NULL,
    band           text        NOT NULL CHECK (band IN ('unknown', 'good', 'warning', 'critical')),
    since          timestamptz NOT NULL,
    bounce_band    text        NOT NULL CHECK (bounce_band IN ('unknown', 'good', 'warning', 'critical')),
    complaint_band text        NOT NULL CHECK (complaint_band IN ('unknown', 'good', 'warning', 'critical')),
    bounce_rate    float8,
    complaint_rate float8,
    -- The last day (UTC) of the window.
    derived_on     date        NOT NULL,
    -- The band paused the domain's broadcast stream since it became critical. It does not do so again.
    pause_set      boolean     NOT NULL DEFAULT false,
    PRIMARY KEY (customer_id, domain)
);

-- A pause of one stream of one customer's sender domain. Its key is customer_id/domain/stream.
ALTER TABLE pauses DROP CONSTRAINT pauses_scope_check;
ALTER TABLE pauses ADD CONSTRAINT pauses_scope_check CHECK (scope IN ('installation', 'customer', 'stream', 'relay', 'domain_stream'));
-- The actor, as in the audit log. Empty: an earlier version set the pause.
ALTER TABLE pauses ADD COLUMN set_by text NOT NULL DEFAULT '';
