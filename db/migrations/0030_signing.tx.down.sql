ALTER TABLE domains DROP COLUMN bounce_host, DROP COLUMN bounce_target, DROP COLUMN spf;
DROP INDEX emails_return_path;
ALTER TABLE emails DROP COLUMN token, DROP COLUMN bounce_host, DROP COLUMN dkim_keys;
