package mail

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
)

// matching narrows a list of e-mails.
func matching(f email.Filter) func(*bun.SelectQuery) *bun.SelectQuery {
	return func(q *bun.SelectQuery) *bun.SelectQuery {
		if len(f.Statuses) > 0 {
			q = q.Where("e.status IN (?)", bun.List(f.Statuses))
		}
		if f.Detail != "" {
			q = q.Where("e.status_detail IN (?)", bun.List(detailsOf(f.Detail)))
		}
		if f.BatchID != "" {
			q = q.Where("e.batch_id = ?", f.BatchID)
		}
		if f.Stream != "" {
			q = q.Where("e.stream = ?", f.Stream)
		}
		if f.Tag != "" {
			// The second condition lets the index be used, which leaves out what has no tags.
			q = q.Where("e.tags @> ARRAY[?]::text[]", f.Tag).Where("e.tags <> '{}'")
		}
		if f.From != "" {
			q = q.Where(addressOf("e.from_email", f.From)+" = ?", strings.ToLower(f.From))
		}
		if f.To != "" {
			q = q.Where("EXISTS (SELECT 1 FROM recipients AS r WHERE r.email_id = e.id AND "+addressOf("r.address", f.To)+" = ?)", strings.ToLower(f.To))
		}
		if f.Subject != "" {
			q = q.Where("e.subject ILIKE ?", "%"+likeEscaper.Replace(f.Subject)+"%")
		}
		if !f.CreatedFrom.IsZero() {
			q = q.Where("e.created_at >= ?", f.CreatedFrom)
		}
		if !f.CreatedBefore.IsZero() {
			q = q.Where("e.created_at < ?", f.CreatedBefore)
		}
		return q
	}
}

// detailsOf are the details that a filter for one selects: deferred is also why those are deferred that name a reason.
func detailsOf(d email.Detail) []email.Detail {
	if d == email.DetailDeferred {
		return []email.Detail{d, email.DetailIPBlocked, email.DetailUnauthenticated}
	}
	return []email.Detail{d}
}

var likeEscaper = strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)

// addressOf is what is compared with an address, or with "@" and a domain. The
// column is ours.
func addressOf(column, wanted string) string {
	if strings.HasPrefix(wanted, "@") {
		return "('@' || lower(split_part(" + column + ", '@', -1)))"
	}
	return "lower(" + column + ")"
}

// recipientCounts are the columns that count recipients r.
const recipientCounts = `count(r.id) AS total, count(r.id) FILTER (WHERE r.status IN ('delivered', 'complained')) AS delivered,
	count(r.id) FILTER (WHERE r.status IN ('bounced', 'suppressed')) AS bounced,
	count(r.id) FILTER (WHERE r.status IN ('failed', 'expired')) AS failed,
	count(r.id) FILTER (WHERE r.status = 'canceled') AS canceled,
	count(r.id) FILTER (WHERE r.status IN ('queued', 'sending', 'deferred')) AS open,
	count(r.id) FILTER (WHERE r.attempts > 1 OR r.status = 'deferred') AS deferred`

// Stats counts the e-mails that a filter takes, deleted ones included: they were
// sent all the same.
func (s *Store) Stats(ctx context.Context, customerID string, f email.Filter) (email.Stats, error) {
	out := email.Stats{Emails: email.StatusCounts{}}
	mails := func() *bun.SelectQuery {
		return s.db.NewSelect().TableExpr("emails AS e").Where("e.customer_id = ?", customerID).Apply(matching(f))
	}
	var byDay []struct {
		Day    time.Time
		Status email.Status
		Emails int
		email.RecipientCounts
	}
	err := mails().ColumnExpr("date_trunc('day', e.created_at AT TIME ZONE 'UTC') AS day, e.status, count(DISTINCT e.id) AS emails, "+recipientCounts).
		Join("JOIN recipients AS r ON r.email_id = e.id").GroupExpr("1, 2").OrderExpr("1").Scan(ctx, &byDay)
	if err != nil {
		return out, pg.Translate(err)
	}
	for _, row := range byDay {
		day := row.Day.Format(time.DateOnly)
		if n := len(out.Days); n == 0 || out.Days[n-1].Day != day {
			out.Days = append(out.Days, email.DayStats{Day: day, Emails: email.StatusCounts{}})
		}
		d := &out.Days[len(out.Days)-1]
		d.Emails[row.Status] += row.Emails
		out.Emails[row.Status] += row.Emails
		d.Recipients.Add(row.RecipientCounts)
		out.Recipients.Add(row.RecipientCounts)
	}
	for column, into := range map[string]*[]email.DomainStats{"e.from_email": &out.SenderDomains, "r.address": &out.RecipientDomains} {
		var rows []struct {
			Domain string
			email.RecipientCounts
		}
		err := mails().ColumnExpr("lower(split_part("+column+", '@', -1)) AS domain, "+recipientCounts).
			Join("JOIN recipients AS r ON r.email_id = e.id").GroupExpr("1").OrderExpr("total DESC, domain").Limit(email.StatsDomains).Scan(ctx, &rows)
		if err != nil {
			return out, pg.Translate(err)
		}
		for _, row := range rows {
			*into = append(*into, email.DomainStats{Domain: row.Domain, Recipients: row.RecipientCounts})
		}
	}
	return out, nil
}
