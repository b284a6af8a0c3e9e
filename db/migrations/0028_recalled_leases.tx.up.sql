-- The lease of the attempt ran out, and its owner has a little longer: Postgres may have been away,
-- and not the owner. An older version does not write it.
ALTER TABLE delivery_attempts ADD COLUMN recalled boolean NOT NULL DEFAULT false;
