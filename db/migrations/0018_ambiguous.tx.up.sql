-- How many attempts at a recipient ended without the relay's answer to the message: each
-- may have delivered a copy, so their number is bounded.
ALTER TABLE recipients ADD COLUMN ambiguous integer NOT NULL DEFAULT 0;

-- The relay whose answer never came. The next attempt goes there again.
ALTER TABLE emails ADD COLUMN ambiguous_relay text NOT NULL DEFAULT '';

UPDATE recipients SET ambiguous = 1 WHERE reason = 'ambiguous' AND status = 'deferred';
