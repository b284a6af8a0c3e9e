ALTER TABLE emails DROP COLUMN topic, DROP COLUMN unsubscribe, DROP COLUMN link_base, DROP COLUMN ignore_suppressions;
DROP INDEX recipients_suppressed;
ALTER TABLE recipients DROP COLUMN address_key, DROP COLUMN suppressed_by;
DROP TABLE suppression_circuits;
DROP TABLE suppressions;
DROP TABLE installation_keys;
