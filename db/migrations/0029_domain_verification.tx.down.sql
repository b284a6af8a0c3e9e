-- A key without scopes may do everything, so a key of the scope domains ends.
UPDATE access_keys SET deleted_at = coalesce(deleted_at, now()), scopes = array_remove(scopes, 'domains') WHERE 'domains' = ANY (scopes);
ALTER TABLE access_keys DROP CONSTRAINT access_keys_scopes_check;
ALTER TABLE access_keys ADD CONSTRAINT access_keys_scopes_check CHECK (scopes <@ ARRAY['emails:send', 'emails:read', 'emails:manage', 'webhooks', 'mailboxes', 'admin']);
DROP TABLE domain_requests, dkim_selectors, dkim_keys;
ALTER TABLE domain_locks DROP COLUMN by_operator;
DROP INDEX domains_due;
ALTER TABLE domains
    DROP COLUMN status, DROP COLUMN status_since, DROP COLUMN verified_by, DROP COLUMN started_at, DROP COLUMN checks, DROP COLUMN misses,
    DROP COLUMN first_miss_at, DROP COLUMN checked_at, DROP COLUMN next_check_at, DROP COLUMN claimed_until, DROP COLUMN records,
    DROP COLUMN blocked_by, DROP COLUMN revision;
