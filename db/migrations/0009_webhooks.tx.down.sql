DROP INDEX email_events_at;
DROP INDEX webhook_deliveries_due;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, next_attempt_at) WHERE status = 'pending';
ALTER TABLE webhook_deliveries
    ADD CONSTRAINT webhook_deliveries_endpoint_id_fkey FOREIGN KEY (endpoint_id) REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    DROP CONSTRAINT webhook_deliveries_spent,
    DROP COLUMN spent,
    DROP COLUMN asked;
ALTER TABLE webhook_endpoints
    DROP COLUMN round_until,
    DROP COLUMN last_error,
    DROP COLUMN warned_at;
