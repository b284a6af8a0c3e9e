-- Whose mail must stop. The gate reads these rows; taking one away is all that
-- resuming needs: a sweep finds the e-mails that nothing stands against any more.
CREATE TABLE pauses (
    scope      text NOT NULL CHECK (scope IN ('installation', 'customer', 'stream', 'relay')),
    key        text NOT NULL DEFAULT '',
    reason     text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key),
    CHECK ((scope = 'installation') = (key = ''))
);

-- The gate turned the e-mail away, on its way to that relay.
ALTER TABLE emails ADD COLUMN paused boolean NOT NULL DEFAULT false, ADD COLUMN paused_relay text NOT NULL DEFAULT '';
CREATE INDEX emails_paused ON emails (id) WHERE paused;
