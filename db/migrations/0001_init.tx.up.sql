-- Customers and what they sign in with.

CREATE TABLE customers (
    id             uuid PRIMARY KEY,
    name           text NOT NULL CHECK (name <> ''),
    detail         text NOT NULL DEFAULT '',
    email          text NOT NULL DEFAULT '',
    status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    default_source jsonb,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    deleted_at     timestamptz
);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    customer_id   uuid NOT NULL REFERENCES customers (id),
    username      text NOT NULL UNIQUE CHECK (username <> ''),
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX users_customer ON users (customer_id);

-- A key is kept as the SHA-256 of its token: 256 random bits need no slow hash.
CREATE TABLE access_keys (
    id           uuid PRIMARY KEY,
    customer_id  uuid NOT NULL REFERENCES customers (id),
    name         text NOT NULL DEFAULT '',
    detail       text NOT NULL DEFAULT '',
    token_prefix text NOT NULL,
    token_hash   bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    expires_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz
);
CREATE INDEX access_keys_customer ON access_keys (customer_id, created_at DESC, id DESC);

CREATE TABLE domains (
    id          uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    name        text NOT NULL CHECK (name = lower(name) AND name <> ''),
    verified_at timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (customer_id, name)
);
-- Two customers may claim a domain, one may prove it.
CREATE UNIQUE INDEX domains_verified_once ON domains (name) WHERE verified_at IS NOT NULL;

-- E-mails. The row lock of emails is the one gate: every change of a state
-- takes it first, then recipients, then the rest.

CREATE TABLE emails (
    id             uuid PRIMARY KEY,
    customer_id    uuid NOT NULL REFERENCES customers (id),
    workflow_id    text NOT NULL CHECK (workflow_id <> ''),
    from_email     text NOT NULL,
    from_name      text NOT NULL DEFAULT '',
    from_label     text NOT NULL DEFAULT '',
    from_detail    text NOT NULL DEFAULT '',
    reply_to       jsonb NOT NULL DEFAULT '[]',
    subject        text NOT NULL,
    metadata       jsonb NOT NULL DEFAULT '{}',
    tags           text[] NOT NULL DEFAULT '{}',
    stream         text NOT NULL CHECK (stream IN ('transactional', 'broadcast')),
    on_ambiguous   text NOT NULL CHECK (on_ambiguous IN ('retry', 'fail')),
    send_at        timestamptz,
    expires_at     timestamptz,
    size_bytes     bigint NOT NULL CHECK (size_bytes >= 0),
    attachments    integer NOT NULL DEFAULT 0,

    status         text NOT NULL CHECK (status IN ('queued', 'sending', 'delivered', 'bounced', 'failed', 'canceled')),
    status_detail  text NOT NULL DEFAULT '',
    status_at      timestamptz NOT NULL,
    held           boolean NOT NULL DEFAULT false,
    relay_down     boolean NOT NULL DEFAULT false,
    -- Asked for while an attempt was open; closing that attempt carries it out.
    cancel_requested boolean NOT NULL DEFAULT false,
    -- The number of the last attempt, and whether its outcomes are still to be projected.
    attempts       integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    attempt_open   boolean NOT NULL DEFAULT false,
    -- When the first attempt opened: the Date header of every attempt.
    date_at        timestamptz,
    -- The number of the last event.
    sequence       bigint NOT NULL DEFAULT 0,
    -- When something has to happen next; what is long overdue has lost its run.
    next_action_at timestamptz,
    created_at     timestamptz NOT NULL,
    deleted_at     timestamptz,

    CHECK (NOT attempt_open OR attempts > 0),
    CHECK ((attempts = 0) = (date_at IS NULL)),
    CHECK (status <> 'queued' OR attempts = 0),
    CHECK (status NOT IN ('delivered', 'bounced', 'failed', 'canceled') OR (next_action_at IS NULL AND NOT attempt_open))
);
CREATE INDEX emails_list ON emails (customer_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX emails_next_action ON emails (next_action_at) WHERE next_action_at IS NOT NULL;

-- What goes on the wire, apart from the row that changes with every step.
CREATE TABLE contents (
    email_id       uuid PRIMARY KEY REFERENCES emails (id) ON DELETE CASCADE,
    body_text      text NOT NULL,
    text_from_html boolean NOT NULL DEFAULT false,
    body_html      text NOT NULL,
    headers        jsonb NOT NULL DEFAULT '[]'
);

CREATE TABLE recipients (
    id              uuid PRIMARY KEY,
    email_id        uuid NOT NULL REFERENCES emails (id) ON DELETE CASCADE,
    position        integer NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('to', 'cc', 'bcc')),
    address         text NOT NULL,
    name            text NOT NULL DEFAULT '',
    label           text NOT NULL DEFAULT '',
    detail          text NOT NULL DEFAULT '',

    status          text NOT NULL CHECK (status IN ('queued', 'sending', 'deferred', 'delivered', 'bounced',
                                                    'failed', 'canceled', 'expired', 'suppressed', 'complained')),
    reason          text NOT NULL DEFAULT '',
    status_at       timestamptz NOT NULL,
    -- The attempt it is or was last part of; how many it was part of; and how
    -- many of them moved it along its schedule.
    attempt         integer NOT NULL DEFAULT 0,
    attempts        integer NOT NULL DEFAULT 0,
    counted         integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    smtp_code       integer NOT NULL DEFAULT 0,
    enhanced_code   text NOT NULL DEFAULT '',
    smtp_text       text NOT NULL DEFAULT '',
    accepted_by     jsonb,

    UNIQUE (email_id, address),
    UNIQUE (email_id, position),
    CHECK (status <> 'sending' OR attempt > 0),
    CHECK ((next_attempt_at IS NOT NULL) = (status IN ('queued', 'deferred'))),
    CHECK (status NOT IN ('delivered', 'complained') OR accepted_by IS NOT NULL)
);

-- The journal. Phases go opened -> data_sent -> done, and each step is taken
-- only by the owner: that, and not a clock, keeps two processes apart.
CREATE TABLE delivery_attempts (
    email_id      uuid NOT NULL REFERENCES emails (id) ON DELETE CASCADE,
    attempt       integer NOT NULL CHECK (attempt > 0),
    part          integer NOT NULL DEFAULT 1 CHECK (part > 0),
    phase         text NOT NULL CHECK (phase IN ('opened', 'data_sent', 'done')),
    owner         uuid NOT NULL,
    lease_until   timestamptz NOT NULL,
    recipient_ids uuid[] NOT NULL,
    relay         jsonb NOT NULL DEFAULT '{}',
    -- From data_sent on: one outcome per recipient. Until done they are what
    -- is true if the server is never heard of again.
    outcomes      jsonb,
    transcript    jsonb,
    message_sha256 text NOT NULL DEFAULT '',
    message_bytes bigint NOT NULL DEFAULT 0,
    opened_at     timestamptz NOT NULL,
    data_sent_at  timestamptz,
    done_at       timestamptz,
    PRIMARY KEY (email_id, attempt, part),
    CHECK (phase = 'opened' OR outcomes IS NOT NULL),
    CHECK (phase <> 'data_sent' OR (data_sent_at IS NOT NULL AND message_sha256 <> '')),
    CHECK ((phase = 'done') = (done_at IS NOT NULL))
);

-- Append-only. The feed's cursor is (txid, id), served below the oldest
-- transaction still running, so that a slow one is never skipped.
CREATE TABLE email_events (
    id            uuid PRIMARY KEY,
    txid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    email_id      uuid NOT NULL REFERENCES emails (id) ON DELETE CASCADE,
    customer_id   uuid NOT NULL,
    sequence      bigint NOT NULL CHECK (sequence > 0),
    type          text NOT NULL,
    recipient_id  uuid,
    attempt       integer NOT NULL DEFAULT 0,
    smtp_code     integer NOT NULL DEFAULT 0,
    enhanced_code text NOT NULL DEFAULT '',
    smtp_text     text NOT NULL DEFAULT '',
    reason        text NOT NULL DEFAULT '',
    at            timestamptz NOT NULL,
    UNIQUE (email_id, sequence)
);
CREATE INDEX email_events_feed ON email_events (customer_id, txid, id);

-- A run is to be started for this e-mail. The gate deletes the row: whoever
-- gets there proves that a run exists.
CREATE TABLE outbox (
    email_id    uuid PRIMARY KEY REFERENCES emails (id) ON DELETE CASCADE,
    lease_owner uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL
);
CREATE INDEX outbox_due ON outbox (lease_until);

-- Stored bytes, in chunks: a large bytea costs the driver four times its size.
CREATE TABLE blobs (
    id          uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    size        bigint NOT NULL CHECK (size >= 0),
    sha256      text NOT NULL CHECK (length(sha256) = 64),
    created_at  timestamptz NOT NULL
);
CREATE TABLE blob_chunks (
    blob_id uuid NOT NULL REFERENCES blobs (id) ON DELETE CASCADE,
    seq     integer NOT NULL CHECK (seq >= 0),
    data    bytea NOT NULL CHECK (octet_length(data) BETWEEN 1 AND 524288),
    PRIMARY KEY (blob_id, seq)
);
ALTER TABLE blob_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE attachments (
    id             uuid PRIMARY KEY,
    email_id       uuid NOT NULL REFERENCES emails (id) ON DELETE CASCADE,
    position       integer NOT NULL,
    filename       text NOT NULL DEFAULT '',
    type           text NOT NULL DEFAULT '',
    content_id     text NOT NULL DEFAULT '',
    reference_type text NOT NULL CHECK (reference_type IN ('file', 'recording')),
    reference_id   uuid NOT NULL,
    optional       boolean NOT NULL DEFAULT false,
    blob_id        uuid REFERENCES blobs (id),
    size           bigint NOT NULL DEFAULT 0,
    sha256         text NOT NULL DEFAULT '',
    problem        text NOT NULL DEFAULT '',
    UNIQUE (email_id, position),
    CHECK (problem = '' OR optional)
);

-- Webhooks.

CREATE TABLE webhook_endpoints (
    id              uuid PRIMARY KEY,
    customer_id     uuid NOT NULL REFERENCES customers (id),
    kind            text NOT NULL CHECK (kind IN ('customer')),
    url             text NOT NULL,
    method          text NOT NULL CHECK (method IN ('POST', 'GET', 'PUT', 'DELETE')),
    secret_sealed   bytea NOT NULL,
    events          text[] NOT NULL,
    disabled_at     timestamptz,
    disabled_reason text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK (url <> '' OR disabled_at IS NOT NULL),
    CHECK ((disabled_at IS NULL) = (disabled_reason = ''))
);
CREATE UNIQUE INDEX webhook_endpoints_customer ON webhook_endpoints (customer_id) WHERE kind = 'customer';

CREATE TABLE webhook_deliveries (
    id              uuid PRIMARY KEY,
    endpoint_id     uuid NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    email_id        uuid REFERENCES emails (id) ON DELETE CASCADE,
    event_id        uuid NOT NULL,
    type            text NOT NULL,
    body            text NOT NULL,
    status          text NOT NULL CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    lease_until     timestamptz,
    last_code       integer NOT NULL DEFAULT 0,
    last_error      text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL,
    done_at         timestamptz,
    UNIQUE (endpoint_id, event_id),
    CHECK ((status = 'pending') = (next_attempt_at IS NOT NULL)),
    CHECK ((status = 'pending') = (done_at IS NULL))
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_attempt_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_email ON webhook_deliveries (email_id);

-- Received mail.

CREATE TABLE mailboxes (
    id          uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    address     text NOT NULL CHECK (address <> ''),
    catch_all   boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX mailboxes_address ON mailboxes (lower(address));
CREATE UNIQUE INDEX mailboxes_one_catch_all ON mailboxes (catch_all) WHERE catch_all;

CREATE TABLE messages (
    id            uuid PRIMARY KEY,
    mailbox_id    uuid NOT NULL REFERENCES mailboxes (id),
    customer_id   uuid NOT NULL,
    blob_id       uuid NOT NULL REFERENCES blobs (id),
    envelope_from text NOT NULL DEFAULT '',
    envelope_to   text[] NOT NULL,
    remote_addr   text NOT NULL DEFAULT '',
    helo          text NOT NULL DEFAULT '',
    subject       text NOT NULL DEFAULT '',
    header_from   text NOT NULL DEFAULT '',
    header_to     text NOT NULL DEFAULT '',
    message_id    text NOT NULL DEFAULT '',
    size          bigint NOT NULL CHECK (size >= 0),
    sha256        text NOT NULL,
    received_at   timestamptz NOT NULL
);
CREATE INDEX messages_list ON messages (mailbox_id, received_at DESC, id DESC);
