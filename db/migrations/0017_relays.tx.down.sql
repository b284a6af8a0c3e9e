ALTER TABLE emails DROP CONSTRAINT emails_check1,
    ADD CONSTRAINT emails_check1 CHECK ((attempts = 0) = (date_at IS NULL)) NOT VALID;
ALTER TABLE emails DROP COLUMN no_relay, DROP COLUMN relay_down_by;
DROP TABLE relay_states;
