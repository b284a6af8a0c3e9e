ALTER TABLE webhook_endpoints
    -- When its customer was last told that it fails; null while it does not.
    ADD COLUMN warned_at timestamptz,
    -- Why it fails, in words.
    ADD COLUMN last_error text NOT NULL DEFAULT '',
    -- Until then its run is at work and sees by itself what is written: nobody has to wake it.
    ADD COLUMN round_until timestamptz;

ALTER TABLE webhook_deliveries
    -- Somebody asked for it: it goes before the others, and while the endpoint is left alone.
    ADD COLUMN asked boolean NOT NULL DEFAULT false,
    -- How many of the attempts were made before somebody asked for it again. The schedule
    -- counts the others.
    ADD COLUMN spent integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT webhook_deliveries_spent CHECK (spent BETWEEN 0 AND attempts);

-- Endpoints are never deleted, and deliveries are only written by a join with them. Every
-- outcome of a busy customer's would lock the one row to check that it is there, all of
-- them side by side.
ALTER TABLE webhook_deliveries DROP CONSTRAINT webhook_deliveries_endpoint_id_fkey;

DROP INDEX webhook_deliveries_due;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, asked DESC, next_attempt_at, event_id) WHERE status = 'pending';

-- A replay asks for a stretch of time. Events come in the order of time, so this costs next to nothing.
CREATE INDEX email_events_at ON email_events USING brin (at);
