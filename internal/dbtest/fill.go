package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun/driver/pgdriver"
)

// fillChunk bounds one statement.
const fillChunk = 50_000

// Fill gives a customer so many delivered e-mails of the last 90 days. Each has all the
// rows of an e-mail that was sent to a single recipient. The caller has to be a superuser,
// as private servers' users are: foreign keys are not checked.
func Fill(ctx context.Context, databaseURL, customerID string, emails int) error {
	if err := FillUnseen(ctx, databaseURL, customerID, emails); err != nil {
		return err
	}
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(databaseURL), pgdriver.WithReadTimeout(10*time.Minute)))
	_, err := db.ExecContext(ctx, "VACUUM ANALYZE")
	return errors.Join(err, db.Close())
}

// FillUnseen is Fill of which the planner learns nothing.
func FillUnseen(ctx context.Context, databaseURL, customerID string, emails int) (err error) {
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(databaseURL), pgdriver.WithReadTimeout(10*time.Minute)))
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "SET session_replication_role = replica"); err != nil {
		return err
	}
	for first := 1; first <= emails; first += fillChunk {
		for _, statement := range fill {
			if _, err := conn.ExecContext(ctx, fmt.Sprintf(fillSource, emails, first, min(first+fillChunk-1, emails))+statement, customerID); err != nil {
				return fmt.Errorf("fill: %w", err)
			}
		}
	}
	return nil
}

// fillSource has a row for every e-mail. Ids sort by time, as version 7 does.
const fillSource = `WITH old AS MATERIALIZED (
	SELECT i, at, (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 15))::uuid AS id,
		(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(h, 5, 3) || '9' || substr(h, 9, 15))::uuid AS recipient_id, $1::uuid AS customer_id
	FROM (SELECT i, md5(i::text) AS h, now() - interval '90 days' + i * (interval '89 days' / %d) AS at FROM generate_series(%d, %d) AS i) AS numbers)
`

// fill are the statements over fillSource. $1 is the customer.
var fill = []string{
	`INSERT INTO emails (id, customer_id, workflow_id, from_email, from_name, subject, metadata, tags, stream, on_ambiguous, size_bytes,
		status, status_at, attempts, date_at, sequence, created_at)
	SELECT id, customer_id, 'email-' || id, 'shop@acme.test', 'Shop', 'Your order ' || i, jsonb_build_object('order', i::text), ARRAY['order', 'campaign-' || i % 1000], 'transactional', 'retry', 1600,
		'delivered', at + interval '40 ms', 1, at + interval '20 ms', 4, at FROM old`,
	`INSERT INTO recipients (id, email_id, position, kind, address, name, status, status_at, attempt, attempts, counted, smtp_code, enhanced_code, smtp_text, accepted_by)
	SELECT recipient_id, id, 0, 'to', 'customer' || i % 100000 || '@example' || i % 100 || '.test', 'A Customer', 'delivered', at + interval '40 ms', 1, 1, 1, 250, '2.0.0', 'Ok: queued as ' || i,
		jsonb_build_object('host', '127.0.0.1', 'code', 250, 'text', 'Ok', 'at', at, 'means', 'relay') FROM old`,
	`INSERT INTO contents (email_id, body_text, body_html)
	SELECT id, repeat('Thank you for your order. We have packed it with care and it leaves our warehouse this afternoon. ', 5),
		'<html><body><h1>Thank you</h1><p>' || repeat('Thank you for your order. We have packed it with care and it leaves our warehouse this afternoon. ', 5) || '</p></body></html>' FROM old`,
	`INSERT INTO delivery_attempts (email_id, attempt, part, phase, owner, lease_until, recipient_ids, relay, outcomes, transcript, message_sha256, message_bytes, opened_at, data_sent_at, done_at)
	SELECT id, 1, 1, 'done', recipient_id, at, ARRAY[recipient_id], '{"name":"sink","host":"127.0.0.1","accepts":"relay"}',
		jsonb_build_array(jsonb_build_object('recipient_id', recipient_id, 'status', 'delivered', 'code', 250, 'text', 'Ok')),
		'[{"command":"MAIL FROM:<shop@acme.test>","ms":0,"code":250},{"command":"RCPT TO:<customer@example.test>","ms":0,"code":250},{"command":"DATA","ms":0,"code":354},{"command":".","ms":0,"code":250}]',
		md5(i::text) || md5(i::text), 2400, at, at, at FROM old`,
	`INSERT INTO webhook_deliveries (id, endpoint_id, email_id, event_id, type, body, status, attempts, last_code, created_at, done_at)
	SELECT gen_random_uuid(), (SELECT id FROM webhook_endpoints AS w WHERE w.customer_id = old.customer_id AND w.kind = 'customer'), id, recipient_id, 'email.delivered',
		'{"type":"email.delivered","data":{"id":"' || id || '"}}', 'delivered', 1, 200, at, at FROM old`,
	`INSERT INTO email_events (id, email_id, customer_id, sequence, type, attempt, at)
	SELECT gen_random_uuid(), id, customer_id, n, (ARRAY['queued', 'sending', 'delivered', 'completed'])[n], least(n - 1, 1), at FROM old, generate_series(1, 4) AS n`,
}
