DROP TABLE operator_domain_requests;
DROP INDEX domains_due, domains_queued, domains_placed, domains_places;
ALTER TABLE domains DROP COLUMN queued_at, DROP COLUMN place_at, DROP COLUMN place_until, DROP COLUMN unanswered;
CREATE INDEX domains_due ON domains (next_check_at) WHERE next_check_at IS NOT NULL;
