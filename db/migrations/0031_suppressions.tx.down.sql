-- A key without scopes may do everything, so a key of these scopes ends.
UPDATE access_keys SET deleted_at = coalesce(deleted_at, now()), scopes = array_remove(array_remove(scopes, 'suppressions'), 'suppressions:ignore')
	WHERE scopes && ARRAY['suppressions', 'suppressions:ignore'];
ALTER TABLE access_keys DROP CONSTRAINT access_keys_scopes_check;
ALTER TABLE access_keys ADD CONSTRAINT access_keys_scopes_check CHECK (scopes <@ ARRAY['emails:send', 'emails:read', 'emails:manage', 'webhooks', 'domains', 'mailboxes', 'admin']);
ALTER TABLE emails DROP COLUMN topic, DROP COLUMN unsubscribe, DROP COLUMN link_base, DROP COLUMN ignore_suppressions;
DROP INDEX recipients_suppressed;
ALTER TABLE recipients DROP COLUMN address_key, DROP COLUMN suppressed_by;
DROP TABLE suppression_circuits;
DROP TABLE suppressions;
DROP TABLE installation_keys;
