-- GET /v1.0/files: a customer's files, newest first.
CREATE INDEX files_customer ON files (customer_id, created_at DESC, id DESC);
