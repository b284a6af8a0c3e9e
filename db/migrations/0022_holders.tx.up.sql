-- Whose a hold is. held stays what the gate obeys: it is true while anybody holds. A hold
-- of neither is one of before, or of an older version: whoever resumes it lifts it.
ALTER TABLE emails
    ADD COLUMN held_by_customer boolean NOT NULL DEFAULT false,
    ADD COLUMN held_by_operator boolean NOT NULL DEFAULT false;
ALTER TABLE batches
    ADD COLUMN held_by_customer boolean NOT NULL DEFAULT false,
    ADD COLUMN held_by_operator boolean NOT NULL DEFAULT false;
-- Whose hold email.held and email.resumed are about; empty for others.
ALTER TABLE email_events
    ADD COLUMN holder text NOT NULL DEFAULT '' CHECK (holder IN ('', 'customer', 'operator'));

-- What is held already belongs to whoever the audit log names: runs and sweeps act as
-- 'system', for operators.
WITH last AS (
    SELECT DISTINCT ON (action, target) action, target, actor FROM audit WHERE action IN ('email.hold', 'batch.hold') ORDER BY action, target, at DESC),
holders AS (
    SELECT e.id, coalesce(one.actor, whole.actor) AS actor FROM emails AS e
    LEFT JOIN last AS one ON one.action = 'email.hold' AND one.target = e.id::text
    LEFT JOIN last AS whole ON whole.action = 'batch.hold' AND whole.target = e.batch_id::text
    WHERE e.held AND e.status IN ('queued', 'sending'))
UPDATE emails AS e SET held_by_operator = h.actor = 'system', held_by_customer = h.actor <> 'system'
    FROM holders AS h WHERE h.id = e.id AND h.actor IS NOT NULL;
WITH last AS (
    SELECT DISTINCT ON (target) target, actor FROM audit WHERE action = 'batch.hold' ORDER BY target, at DESC)
UPDATE batches AS b SET held_by_operator = l.actor = 'system', held_by_customer = l.actor <> 'system'
    FROM last AS l WHERE l.target = b.id::text AND b.held;

-- E-mails that were changed by somebody who does not talk to Temporal: their runs are
-- woken by a sweep, which deletes the row then.
CREATE TABLE wakes (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email_id    uuid NOT NULL REFERENCES emails (id) ON DELETE CASCADE,
    lease_until timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX wakes_lease ON wakes (lease_until);
