-- Which key seals what is secret here: a text sealed with it, so that a process with
-- another key notices before it seals or opens anything. While a key is being
-- replaced there is a second row, until nothing is sealed with the old key any more.
CREATE TABLE secret_keys (
    id             uuid PRIMARY KEY,
    canary         bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    -- Set: secrets may still be sealed with it, but it seals no more.
    retiring_since timestamptz
);
CREATE UNIQUE INDEX secret_keys_one_seals ON secret_keys ((retiring_since IS NULL)) WHERE retiring_since IS NULL;
