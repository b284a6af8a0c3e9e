package mail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/reputation"
)

// Outcomes are counts of what the events of a customer tell of recipients.
type Outcomes struct {
	// Day is that of the events (UTC).
	Day time.Time
	// SenderDomain and RecipientDomain are in lower case. RecipientDomain is empty if the event names
	// no recipient.
	SenderDomain    string
	RecipientDomain string
	Stream          email.Stream
	reputation.Counts
}

// FeedPlace is a place in a customer's feed: behind the event.
type FeedPlace struct {
	TxID    string `bun:"txid"`
	EventID string `bun:"event_id"`
}

// refusedForSender is the condition that an event ev tells of a refusal because of the sender's
// reputation or authentication.
const refusedForSender = `(ev.type = 'email.bounced' AND ev.reason = 'block' OR ev.type = 'email.deferred' AND ev.reason IN ('ip_blocked', 'unauthenticated'))`

// countOutcomes counts a recipient as blocked at the first such event of a day.
var countOutcomes = `SELECT (ev.at AT TIME ZONE 'UTC')::date AS day, lower(split_part(e.from_email, '@', -1)) AS sender_domain,
			coalesce(lower(split_part(r.address, '@', -1)), '') AS recipient_domain, e.stream,
			count(*) FILTER (WHERE ev.type IN ('email.delivered', 'email.bounced') OR ev.type IN ('email.expired', 'email.failed') AND ev.attempt > 0) AS sent,
			count(*) FILTER (WHERE ev.type = 'email.delivered') AS delivered,
			count(*) FILTER (WHERE ev.type = 'email.deferred') AS deferred,
			count(*) FILTER (WHERE ev.type = 'email.bounced' AND ev.reason = 'hard') AS hard,
			count(*) FILTER (WHERE ev.type = 'email.bounced' AND ev.reason = 'soft') AS soft,
			count(*) FILTER (WHERE ` + refusedForSender + ` AND NOT EXISTS (SELECT 1 FROM email_events AS b WHERE b.email_id = ev.email_id AND b.sequence < ev.sequence
				AND b.recipient_id = ev.recipient_id AND (b.at AT TIME ZONE 'UTC')::date = (ev.at AT TIME ZONE 'UTC')::date
				AND ` + strings.ReplaceAll(refusedForSender, "ev.", "b.") + `)) AS blocked,
			count(*) FILTER (WHERE ev.type = 'email.complained') AS complained,
			count(*) FILTER (WHERE ev.type = 'email.unsubscribed') AS unsubscribed
		FROM email_events AS ev JOIN emails AS e ON e.id = ev.email_id LEFT JOIN recipients AS r ON r.id = ev.recipient_id
		WHERE ev.customer_id = ?0 AND (ev.txid, ev.id) > (?1::xid8, ?2::uuid) AND (ev.txid, ev.id) <= (?3::xid8, ?4::uuid) AND ev.at >= ?5::timestamptz
			AND ev.type IN ('email.delivered', 'email.bounced', 'email.deferred', 'email.expired', 'email.failed', 'email.complained', 'email.unsubscribed')
		GROUP BY 1, 2, 3, 4`

// CountOutcomes counts what up to limit events of a customer behind a place tell, leaving out those
// of before from (a timestamptz of Postgres). It reads them as Feed does, and stops before the oldest
// transaction that is still running. It returns the place behind the last event, and how many events
// it has read.
func CountOutcomes(ctx context.Context, tx bun.Tx, customerID string, after FeedPlace, from string, limit int) (out []Outcomes, next FeedPlace, n int, err error) {
	var last struct {
		FeedPlace
		Events int
	}
	err = tx.NewRaw(`WITH lot AS (SELECT ev.txid, ev.id FROM email_events AS ev WHERE ev.customer_id = ? AND (ev.txid, ev.id) > (?::xid8, ?::uuid)
			AND ev.txid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY ev.txid, ev.id LIMIT ?)
		SELECT txid, id AS event_id, (SELECT count(*) FROM lot) AS events FROM lot ORDER BY txid DESC, id DESC LIMIT 1`,
		customerID, after.TxID, after.EventID, limit).Scan(ctx, &last)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, after, 0, nil
	}
	if err != nil {
		return nil, after, 0, fmt.Errorf("read feed: %w", err)
	}
	err = tx.NewRaw(countOutcomes, customerID, after.TxID, after.EventID, last.TxID, last.EventID, from).Scan(ctx, &out)
	if err != nil {
		return nil, after, 0, fmt.Errorf("count outcomes: %w", err)
	}
	return out, last.FeedPlace, last.Events, nil
}
