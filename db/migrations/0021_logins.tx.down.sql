DROP TABLE domain_locks;
ALTER TABLE users DROP COLUMN token_version;
