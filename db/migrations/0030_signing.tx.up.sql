-- What all attempts of an e-mail have besides its content. The gate writes it when an attempt opens,
-- until the e-mail's date is fixed.
ALTER TABLE emails
    -- Letters that nobody can guess, in X-Postrider-Id and in the return path. Empty until an attempt opens.
    ADD COLUMN token text NOT NULL DEFAULT '',
    -- The host of the return path. Empty: the sender's address is the return path.
    ADD COLUMN bounce_host text NOT NULL DEFAULT '',
    -- The keys that sign the message, RSA first. NULL: none.
    ADD COLUMN dkim_keys uuid[];
CREATE UNIQUE INDEX emails_return_path ON emails (token) WHERE bounce_host <> '';

-- The domain's own host for return paths, while its record is there. Empty: the installation's.
ALTER TABLE domains
    ADD COLUMN bounce_host text NOT NULL DEFAULT '',
    -- The installation's host that it leads to.
    ADD COLUMN bounce_target text NOT NULL DEFAULT '',
    -- What the last check found of SPF, for each relay.
    ADD COLUMN spf jsonb NOT NULL DEFAULT '[]';
