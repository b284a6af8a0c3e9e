ALTER TABLE emails DROP COLUMN ambiguous_relay;
ALTER TABLE recipients DROP COLUMN ambiguous;
