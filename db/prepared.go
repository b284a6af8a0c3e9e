package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

// What every e-mail asks for is prepared on each connection when it is made: most of
// these statements take Postgres longer to plan than to run. They are called by
// EXECUTE, which goes into messages with others. Columns are named, never *: a
// migration may add some while this process runs.
//
// A connection is a session of Postgres's to the end: a pooler that hands out another
// one for each transaction would not know the statements.
var prepared = []string{
	`find_grant(bytea, float8) AS ` + grantColumns + `,
		k.scopes, k.sender_domains, k.networks::text[] AS networks, k.id AS key_id, k.expires_at AS key_expires_at,
		k.last_used_at IS NULL OR k.last_used_at < now() - $2 * interval '1 second' AS key_rested
	FROM access_keys AS k JOIN customers AS cu ON cu.id = k.customer_id
	LEFT JOIN webhook_endpoints AS w ON w.customer_id = cu.id AND w.kind = 'customer'
	WHERE k.token_hash = $1 AND k.deleted_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())`,

	`find_acceptance(uuid, text) AS SELECT now(),
		(SELECT array_agg(DISTINCT w.format || ' ' || t) FROM webhook_endpoints AS w, unnest(w.events) AS t
			WHERE w.customer_id = $1 AND w.disabled_at IS NULL AND w.kind <> 'callback'),
		coalesce((SELECT customer_id = $1 FROM domains WHERE name = $2 AND verified_at IS NOT NULL),
			(SELECT false FROM domain_locks WHERE name = $2)),
		EXISTS (SELECT 1 FROM customers WHERE id = $1 AND credits IS NOT NULL)`,

	`find_plan(uuid) AS SELECT ` + emailColumns + `, now() AS tx_now,
		(SELECT array_agg(DISTINCT lower(split_part(r.address, '@', -1))) FROM recipients AS r WHERE r.email_id = e.id) AS domains,
		(SELECT count(*) FROM recipients AS r WHERE r.email_id = e.id AND r.status IN ('queued', 'sending', 'deferred')) AS open
	FROM emails AS e WHERE e.id = $1`,

	`find_messages(uuid[]) AS SELECT ` + emailColumns + `, c.body_text, c.text_from_html, c.body_html, c.calendar_method, c.calendar, c.headers,
		(SELECT jsonb_agg(to_jsonb(r) ORDER BY r.position) FROM recipients AS r WHERE r.email_id = e.id) AS recipients
	FROM emails AS e JOIN contents AS c ON c.email_id = e.id WHERE e.id = ANY ($1)`,

	`find_locked(uuid[]) AS SELECT ` + emailColumns + `, now() AS tx_now,
		(SELECT jsonb_agg(to_jsonb(r) ORDER BY r.position) FROM recipients AS r WHERE r.email_id = e.id) AS recipients,
		h.wants, coalesce(h.rest, false) AS hooks_rest,
		EXISTS (SELECT 1 FROM pauses) AS pauses,
		EXISTS (SELECT 1 FROM domains WHERE warmup_plan IS NOT NULL AND warmup_until > (now() AT TIME ZONE 'UTC')::date) AS warmups
	FROM emails AS e LEFT JOIN LATERAL (
		SELECT array_agg(DISTINCT w.format || ' ' || t) AS wants, bool_and(coalesce(w.blocked_until > now(), false) OR w.failures > 0 AND coalesce(w.round_until > now(), false)) AS rest
		FROM webhook_endpoints AS w, unnest(w.events) AS t
		WHERE w.customer_id = e.customer_id AND w.disabled_at IS NULL AND (w.kind <> 'callback' OR w.id = e.callback_id)) AS h ON true
	WHERE e.id = ANY ($1) ORDER BY e.id`,

	`find_attempts(uuid[]) AS SELECT ` + attemptColumns + ` FROM delivery_attempts AS a
	JOIN emails AS e ON e.id = a.email_id AND e.attempts = a.attempt WHERE a.email_id = ANY ($1) AND a.part = 1 FOR UPDATE OF a`,

	`lock_free(uuid[]) AS SELECT id FROM emails WHERE id = ANY ($1) ORDER BY id FOR UPDATE SKIP LOCKED`,

	`find_attempt(uuid, integer) AS SELECT ` + attemptColumns + ` FROM delivery_attempts AS a
	WHERE a.email_id = $1 AND a.attempt = $2 AND a.part = 1 FOR UPDATE`,

	"open_attempts(jsonb) AS " + openAttempts,
	"end_attempts(jsonb, bigint, uuid[]) AS " + counted(endAttempts, "delivery_attempts", "a.email_id"), forOne("end_attempts(jsonb, bigint, uuid[]) AS " + counted(endAttempts, "delivery_attempts", "a.email_id")),
	"mark_attempts(jsonb, bigint, uuid[], float8) AS " + markAttempts, forOne("mark_attempts(jsonb, bigint, uuid[], float8) AS " + markAttempts),
	"finish_attempts(jsonb, bigint, uuid[]) AS " + finishAttempts, forOne("finish_attempts(jsonb, bigint, uuid[]) AS " + finishAttempts),
	"write_emails(jsonb, bigint, uuid[]) AS " + counted(writeEmails, "emails", "e.id"), forOne("write_emails(jsonb, bigint, uuid[]) AS " + counted(writeEmails, "emails", "e.id")),
	"write_recipients(jsonb, bigint, uuid[]) AS " + counted(writeRecipients, "recipients", "r.id"), forOne("write_recipients(jsonb, bigint, uuid[]) AS " + counted(writeRecipients, "recipients", "r.id")),
	"write_events(jsonb) AS " + writeEvents,
	"write_deliveries(jsonb) AS " + writeDeliveries,
	`write_usage(uuid, integer, bigint, bigint) AS ` + writeUsage,
	`drop_outbox(uuid[]) AS DELETE FROM outbox WHERE email_id = ANY ($1)`,
}

// forOne is a statement for several rows when there is one: the planner is told. It
// would expect more of a set whose size it does not know, and read a small table in
// full for them.
func forOne(statement string) string {
	name, rest, _ := strings.Cut(statement, "(")
	return name + "_one(" + strings.ReplaceAll(rest, "LIMIT $2", "LIMIT 1")
}

// sized is the name of a statement for so many rows.
func sized(name string, rows int) string {
	if rows == 1 {
		return name + "_one"
	}
	return name
}

// counted makes an update fail that does not change the $2 rows whose keys are $3. The error
// names those that it did not change, and nothing is committed.
func counted(update, table, key string) string {
	return "WITH changed AS (" + update + " RETURNING " + key + " AS key) SELECT CASE WHEN (SELECT count(*) FROM changed) = $2 THEN 1 " +
		"ELSE rows_not_written('" + table + "', $2, ARRAY(SELECT unnest($3) EXCEPT SELECT key FROM changed)) END"
}

// The columns of rows that prepared statements read.
var (
	emailColumns   = columns[emailRow]("e")
	attemptColumns = columns[attemptRow]("a")
	grantColumns   = "SELECT " + columns[customerRow]("cu") + ", coalesce(w.url, '') AS webhook_uri, coalesce(w.method, 'POST') AS webhook_method"
)

// columns are those of a model's table.
func columns[R any](alias string) string {
	var names []string
	for _, f := range pgdialect.New().Tables().Get(reflect.TypeFor[R]()).Fields {
		if !f.Tag.HasOption("scanonly") {
			names = append(names, alias+"."+f.Name)
		}
	}
	return strings.Join(names, ", ")
}

// preparing makes connections that know the prepared statements. Where the schema is
// missing they do not come about, and the error says so.
type preparing struct{ driver.Connector }

// Connect opens a connection.
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	execer, ok := conn.(driver.ExecerContext)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's %T runs no statements", conn), conn.Close())
	}
	if _, err := execer.ExecContext(ctx, "PREPARE "+strings.Join(prepared, ";\nPREPARE "), nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// executed is a call of a prepared statement.
func executed(idb bun.IDB, name string, args ...any) *bun.RawQuery {
	return idb.NewRaw("EXECUTE "+name+"(?"+strings.Repeat(", ?", len(args)-1)+")", args...)
}
