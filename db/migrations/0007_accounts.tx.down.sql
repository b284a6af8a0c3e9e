DROP TABLE audit;
DROP TABLE usage;
ALTER TABLE access_keys DROP COLUMN last_used_at, DROP COLUMN sender_domains, DROP COLUMN networks;
ALTER TABLE users DROP COLUMN admin;
ALTER TABLE customers DROP COLUMN profile, DROP COLUMN credits;
