-- Finding mail by recipient and by tag.
CREATE INDEX recipients_address ON recipients (lower(address), email_id);
CREATE INDEX recipients_domain ON recipients (('@' || lower(split_part(address, '@', -1))), email_id);
CREATE INDEX emails_tags ON emails USING gin (tags) WHERE tags <> '{}';
