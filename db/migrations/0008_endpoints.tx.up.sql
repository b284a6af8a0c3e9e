-- Endpoints of their own, and the callback_url of messages.
ALTER TABLE webhook_endpoints
    DROP CONSTRAINT webhook_endpoints_kind_check,
    ADD CONSTRAINT webhook_endpoints_kind_check CHECK (kind IN ('customer', 'endpoint', 'callback')),
    ADD COLUMN format text NOT NULL DEFAULT 'standard' CHECK (format IN ('standard', 'voipbin')),
    -- Where they are not empty, only e-mails with one of the tags, or of one of the
    -- streams, are told of.
    ADD COLUMN tags text[] NOT NULL DEFAULT '{}',
    ADD COLUMN streams text[] NOT NULL DEFAULT '{}' CHECK (streams <@ ARRAY['transactional', 'broadcast']),
    -- A callback is signed with its customer's secret and has none of its own.
    ALTER COLUMN secret_sealed DROP NOT NULL,
    ADD CONSTRAINT webhook_endpoints_secret CHECK ((secret_sealed IS NULL) = (kind = 'callback')),
    -- The breaker: failures in a row, since when, and until when it is left alone.
    ADD COLUMN failures integer NOT NULL DEFAULT 0,
    ADD COLUMN failing_since timestamptz,
    ADD COLUMN blocked_until timestamptz,
    ADD COLUMN deleted_at timestamptz,
    ADD CONSTRAINT webhook_endpoints_failing CHECK ((failures = 0) = (failing_since IS NULL));
CREATE UNIQUE INDEX webhook_endpoints_callback ON webhook_endpoints (customer_id, url) WHERE kind = 'callback';

ALTER TABLE emails ADD COLUMN callback_id uuid REFERENCES webhook_endpoints (id);

-- One call each.
CREATE TABLE webhook_attempts (
    delivery_id uuid NOT NULL REFERENCES webhook_deliveries (id) ON DELETE CASCADE,
    attempt     integer NOT NULL CHECK (attempt > 0),
    at          timestamptz NOT NULL DEFAULT now(),
    code        integer NOT NULL DEFAULT 0,
    ms          bigint NOT NULL DEFAULT 0,
    error       text NOT NULL DEFAULT '',
    -- The beginning of the answer.
    answer      text NOT NULL DEFAULT '',
    PRIMARY KEY (delivery_id, attempt)
);
CREATE INDEX webhook_deliveries_list ON webhook_deliveries (endpoint_id, created_at DESC, id DESC);
