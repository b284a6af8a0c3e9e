-- Relays that fail, as all processes know them: who is left alone until when, and who probes.
CREATE TABLE relay_states (
    name         text NOT NULL,
    address      text NOT NULL,
    failures     integer NOT NULL DEFAULT 0,
    since        timestamptz NOT NULL DEFAULT now(),
    next_at      timestamptz NOT NULL DEFAULT now(),
    changed_at   timestamptz NOT NULL DEFAULT now(),
    shared       boolean NOT NULL DEFAULT false,
    reply_code   integer NOT NULL DEFAULT 0,
    enhanced     text NOT NULL DEFAULT '',
    reply_text   text NOT NULL DEFAULT '',
    mail_from    text,
    probe_owner  uuid,
    probe_until  timestamptz,
    PRIMARY KEY (name, address)
);

-- Which relay an e-mail that says relay_down waits for, and whether one is configured for it.
ALTER TABLE emails
    ADD COLUMN relay_down_by text NOT NULL DEFAULT '',
    ADD COLUMN no_relay boolean NOT NULL DEFAULT false;

-- Attempts that a relay ended before it named a recipient begin no time until expiry.
ALTER TABLE emails DROP CONSTRAINT emails_check1,
    ADD CONSTRAINT emails_check1 CHECK (attempts > 0 OR date_at IS NULL) NOT VALID;
