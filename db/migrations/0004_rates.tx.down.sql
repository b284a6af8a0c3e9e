DROP INDEX emails_open;
ALTER TABLE access_keys DROP COLUMN scopes;
ALTER TABLE emails DROP COLUMN throttled_until;
DROP TABLE rates;
