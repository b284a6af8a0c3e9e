-- Keys that the installation makes for itself, sealed.
CREATE TABLE installation_keys (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Addresses to which a customer sends nothing, or none of its broadcast mail.
CREATE TABLE suppressions (
    id          uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    -- A keyed hash of the address, as recipients have it.
    address_key text NOT NULL CHECK (address_key <> ''),
    -- Empty once a person's address is erased. *@example.com covers all addresses of the domain.
    address     text NOT NULL DEFAULT '',
    scope       text NOT NULL CHECK (scope IN ('all', 'stream', 'topic')),
    -- The stream or topic of the scope.
    target      text NOT NULL DEFAULT '' CHECK ((target = '') = (scope = 'all')),
    reason      text NOT NULL CHECK (reason IN ('hard_bounce', 'soft_bounces', 'complaint', 'unsubscribe', 'manual')),
    source      text NOT NULL CHECK (source IN ('delivery', 'recipient', 'manual', 'import')),
    -- The e-mail that was the reason; NULL if none was.
    email_id    uuid,
    note        text NOT NULL DEFAULT '',
    expires_at  timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- The entry that ended sooner, which this one has replaced: it comes back if this one is taken back.
    replaced    jsonb,
    UNIQUE (customer_id, address_key, scope, target)
);
CREATE INDEX suppressions_list ON suppressions (customer_id, created_at DESC, id DESC);
CREATE INDEX suppressions_domain ON suppressions (customer_id, address) WHERE address LIKE '*@%';

ALTER TABLE recipients
    -- Empty: accepted by a version that had no suppressions.
    ADD COLUMN address_key text NOT NULL DEFAULT '',
    -- The entry of suppressions that ended it.
    ADD COLUMN suppressed_by uuid;
CREATE INDEX recipients_suppressed ON recipients (suppressed_by) WHERE suppressed_by IS NOT NULL;

ALTER TABLE emails
    ADD COLUMN topic text NOT NULL DEFAULT '',
    -- The recipient gets a link by which it unsubscribes.
    ADD COLUMN unsubscribe boolean NOT NULL DEFAULT false,
    -- Where that link leads: the address of the API when the date of the message was fixed.
    ADD COLUMN link_base text NOT NULL DEFAULT '',
    ADD COLUMN ignore_suppressions boolean NOT NULL DEFAULT false;

-- Where so much has bounced that the fault may be ours: nothing is suppressed there by itself until then.
CREATE TABLE suppression_circuits (
    customer_id uuid NOT NULL REFERENCES customers (id) ON DELETE CASCADE,
    domain      text NOT NULL CHECK (domain <> ''),
    until       timestamptz NOT NULL,
    PRIMARY KEY (customer_id, domain)
);

-- The scopes suppressions and suppressions:ignore.
ALTER TABLE access_keys DROP CONSTRAINT access_keys_scopes_check;
ALTER TABLE access_keys ADD CONSTRAINT access_keys_scopes_check CHECK (scopes <@ ARRAY['emails:send', 'emails:read', 'emails:manage', 'webhooks', 'domains', 'suppressions', 'suppressions:ignore', 'mailboxes', 'admin']);
