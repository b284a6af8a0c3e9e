package reputation

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/reputation"
)

// sums are the counts of days d.
const sums = `coalesce(sum(d.sent), 0)::bigint AS sent, coalesce(sum(d.delivered), 0)::bigint AS delivered, coalesce(sum(d.deferred), 0)::bigint AS deferred,
	coalesce(sum(d.hard), 0)::bigint AS hard, coalesce(sum(d.soft), 0)::bigint AS soft, coalesce(sum(d.blocked), 0)::bigint AS blocked,
	coalesce(sum(d.complained), 0)::bigint AS complained, coalesce(sum(d.unsubscribed), 0)::bigint AS unsubscribed`

// array is a list as a parameter of a statement.
func array(list []string) any { return pgdialect.Array(list) }

// DomainReport is Report for a sender domain of the customer, by id. A domain that the customer does
// not have is a CodeNotFound.
func (s *Store) DomainReport(ctx context.Context, customerID, domainID string, days int, stream email.Stream) (reputation.Report, error) {
	var name string
	err := s.db.NewRaw("SELECT name FROM domains WHERE customer_id = ? AND id = ?", customerID, domainID).Scan(ctx, &name)
	if errors.Is(err, sql.ErrNoRows) {
		return reputation.Report{}, pg.NotFound("domain")
	}
	if err != nil {
		return reputation.Report{}, pg.Translate(err)
	}
	return s.Report(ctx, customerID, name, days, stream)
}

// Report reads how a customer's domain stands, and its counts of the last days (UTC, today included)
// by stream, day and provider; of one stream only, if it is named. The bands and the window are of
// the whole domain. A domain of which nothing is known has no counts, and is in the band unknown.
func (s *Store) Report(ctx context.Context, customerID, domain string, days int, stream email.Stream) (out reputation.Report, err error) {
	var head struct {
		Today         time.Time
		Since         time.Time `bun:"since,nullzero"`
		BounceBand    reputation.Band
		ComplaintBand reputation.Band
		reputation.Counts
	}
	err = s.db.NewRaw(`SELECT `+today+` AS today, st.since, coalesce(st.bounce_band, 'unknown') AS bounce_band, coalesce(st.complaint_band, 'unknown') AS complaint_band, w.*
		FROM (SELECT `+sums+` FROM reputation_days AS d WHERE d.customer_id = ?0 AND d.sender_domain = ?1 AND `+inWindow+`) AS w
		LEFT JOIN reputation_states AS st ON st.customer_id = ?0 AND st.domain = ?1`, customerID, domain).Scan(ctx, &head)
	if err != nil {
		return out, pg.Translate(err)
	}
	out.Domain = domain
	out.Standing = reputation.Standing{Bands: reputation.Bands{Bounce: head.BounceBand, Complaint: head.ComplaintBand}, Since: pg.UTC(head.Since)}
	out.Window, out.WindowFrom, out.WindowTo = head.Counts, head.Today.AddDate(0, 0, 1-reputation.WindowDays), head.Today
	out.From, out.To = head.Today.AddDate(0, 0, 1-days), head.Today
	var rows []struct {
		Stream   *email.Stream
		Day      *time.Time
		Provider *reputation.Provider
		reputation.Counts
	}
	err = s.db.NewRaw(`SELECT d.stream, d.day, d.provider, `+sums+` FROM reputation_days AS d
		WHERE d.customer_id = ?0 AND d.sender_domain = ?1 AND d.day BETWEEN ?2::date AND ?3::date AND (?4 = '' OR d.stream = ?4)
		GROUP BY GROUPING SETS ((d.stream), (d.day), (d.provider)) ORDER BY d.day, d.stream DESC, d.provider`,
		customerID, domain, out.From.Format(time.DateOnly), out.To.Format(time.DateOnly), string(stream)).Scan(ctx, &rows)
	if err != nil {
		return out, pg.Translate(err)
	}
	for _, r := range rows {
		switch {
		case r.Stream != nil:
			out.Streams = append(out.Streams, reputation.StreamCounts{Stream: *r.Stream, Counts: r.Counts})
		case r.Day != nil:
			out.Days = append(out.Days, reputation.DayCounts{Day: *r.Day, Counts: r.Counts})
		case r.Provider != nil:
			out.Providers = append(out.Providers, reputation.ProviderCounts{Provider: *r.Provider, Counts: r.Counts})
		}
	}
	return out, nil
}
