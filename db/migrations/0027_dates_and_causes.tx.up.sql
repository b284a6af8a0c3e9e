-- The Date header of a message that a relay got before the time until expiry began (date_at). NULL
-- means date_at.
ALTER TABLE emails ADD COLUMN dated_at timestamptz;

-- What failed, in one line for an operator: which command the relay refused, or where the
-- connection ended. An older version does not write it.
ALTER TABLE relay_states ADD COLUMN cause text NOT NULL DEFAULT '';
