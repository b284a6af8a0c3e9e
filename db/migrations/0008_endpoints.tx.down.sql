DROP INDEX webhook_deliveries_list;
DROP TABLE webhook_attempts;
ALTER TABLE emails DROP COLUMN callback_id;
DELETE FROM webhook_deliveries WHERE endpoint_id IN (SELECT id FROM webhook_endpoints WHERE kind <> 'customer');
DELETE FROM webhook_endpoints WHERE kind <> 'customer';
ALTER TABLE webhook_endpoints
    DROP CONSTRAINT webhook_endpoints_failing,
    DROP CONSTRAINT webhook_endpoints_secret,
    DROP CONSTRAINT webhook_endpoints_kind_check,
    ADD CONSTRAINT webhook_endpoints_kind_check CHECK (kind IN ('customer')),
    ALTER COLUMN secret_sealed SET NOT NULL,
    DROP COLUMN format, DROP COLUMN tags, DROP COLUMN streams, DROP COLUMN failures, DROP COLUMN failing_since,
    DROP COLUMN blocked_until, DROP COLUMN deleted_at;
