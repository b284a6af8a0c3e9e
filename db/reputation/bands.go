package reputation

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/audit"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/mail"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/reputation"
)

// Conditions of SQL. today is the last day of the window. outdated is a state st whose window has
// moved on by a day: its band may change though nothing is sent. inWindow are the days d of the window.
const (
	today    = "(now() AT TIME ZONE 'UTC')::date"
	outdated = "st.band <> 'unknown' AND st.derived_on < " + today
)

var inWindow = fmt.Sprintf("d.day BETWEEN %s - %d AND %[1]s", today, reputation.WindowDays-1)

// stateRow is how a domain stands, with the counts of the window of now.
type stateRow struct {
	Domain        string
	Band          reputation.Band
	BounceBand    reputation.Band
	ComplaintBand reputation.Band
	Since         time.Time `bun:"since,nullzero"`
	PauseSet      bool
	DomainID      string    `bun:"domain_id,nullzero"`
	TxNow         time.Time `bun:"tx_now"`
	reputation.Counts
}

// judge derives the bands of some domains of a customer, and of those whose window has moved on. It
// returns those that have become worse. The transaction has the customer's cursor locked: no other
// one judges these domains meanwhile.
func (s *Store) judge(ctx context.Context, tx bun.Tx, customerID string, domains []string) (changes []reputation.Change, err error) {
	var rows []stateRow
	err = tx.NewRaw(`WITH judged AS (SELECT unnest(?1::text[]) AS domain UNION SELECT st.domain FROM reputation_states AS st WHERE st.customer_id = ?0 AND `+outdated+`)
		SELECT j.domain, coalesce(st.band, 'unknown') AS band, coalesce(st.bounce_band, 'unknown') AS bounce_band, coalesce(st.complaint_band, 'unknown') AS complaint_band,
			st.since, coalesce(st.pause_set, false) AS pause_set, o.id AS domain_id, now() AS tx_now, w.*
		FROM judged AS j LEFT JOIN reputation_states AS st ON st.customer_id = ?0 AND st.domain = j.domain
			LEFT JOIN domains AS o ON o.customer_id = ?0 AND o.name = j.domain
			CROSS JOIN LATERAL (SELECT `+sums+` FROM reputation_days AS d WHERE d.customer_id = ?0 AND d.sender_domain = j.domain AND `+inWindow+`) AS w
		ORDER BY j.domain`, customerID, array(domains)).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("read domains: %w", err)
	}
	for i := range rows {
		r := &rows[i]
		change, worse, err := s.derive(ctx, tx, customerID, r)
		if err != nil {
			return nil, err
		}
		if worse {
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// derive moves one domain to its bands. worse says that it has entered a worse one, warning or
// critical.
func (s *Store) derive(ctx context.Context, tx bun.Tx, customerID string, r *stateRow) (change reputation.Change, worse bool, err error) {
	bands := reputation.Bands{Bounce: r.BounceBand, Complaint: r.ComplaintBand}.After(r.Counts)
	before, band := r.Band, bands.Band()
	if band != before || r.Since.IsZero() {
		r.Since = r.TxNow
	}
	change = reputation.Change{CustomerID: customerID, Domain: r.Domain, Bands: bands, Before: before, Window: r.Counts, Cause: bands.Cause(r.Domain, r.Counts)}
	switch {
	case band != reputation.BandCritical:
		r.PauseSet = false
	case s.pause && !r.PauseSet:
		key := email.DomainStreamKey(customerID, r.Domain, email.StreamBroadcast)
		if change.Paused, err = mail.SetPause(ctx, tx, email.Pause{Scope: email.PauseDomainStream, Key: key, Reason: change.Cause}); err != nil {
			return change, false, err
		}
		r.PauseSet = true
	}
	_, err = tx.NewRaw(`INSERT INTO reputation_states AS st (customer_id, domain, band, since, bounce_band, complaint_band, bounce_rate, complaint_rate, derived_on, pause_set)
		VALUES (?0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, `+today+`, ?8) ON CONFLICT (customer_id, domain) DO UPDATE SET band = excluded.band, since = excluded.since,
			bounce_band = excluded.bounce_band, complaint_band = excluded.complaint_band, bounce_rate = excluded.bounce_rate, complaint_rate = excluded.complaint_rate,
			derived_on = excluded.derived_on, pause_set = excluded.pause_set`,
		customerID, r.Domain, band, r.Since, bands.Bounce, bands.Complaint, r.BounceRate(), r.ComplaintRate(), r.PauseSet).Exec(ctx)
	if err != nil {
		return change, false, fmt.Errorf("write state of %s: %w", r.Domain, err)
	}
	worse = band.WorseThan(before) && band.WorseThan(reputation.BandGood)
	if worse {
		err = announce(ctx, tx, r, change)
	}
	return change, worse, err
}

// bandEvent is the member data of reputation.warning and reputation.critical. Members are added, never
// changed.
type bandEvent struct {
	// DomainID is null for a domain that the customer has not added.
	DomainID   *string         `json:"domain_id"`
	CustomerID string          `json:"customer_id"`
	Domain     string          `json:"domain"`
	Band       reputation.Band `json:"band"`
	Since      time.Time       `json:"since"`
	// Cause is in words.
	Cause string `json:"cause"`
	// BroadcastPaused: the domain's broadcast stream was paused because of this.
	BroadcastPaused bool `json:"broadcast_paused"`
	// Window are the counts of the last days, today included.
	Window bandEventWindow `json:"window"`
}

type bandEventWindow struct {
	Days       int             `json:"days"`
	Recipients bandEventCounts `json:"recipients"`
}

type bandEventCounts struct {
	reputation.Counts
	BounceRate    *float64 `json:"bounce_rate"`
	ComplaintRate *float64 `json:"complaint_rate"`
}

// announce tells webhooks and the audit log of a worse band. "reputation." and the band is the type
// of the event.
func announce(ctx context.Context, tx bun.Tx, r *stateRow, c reputation.Change) error {
	data := bandEvent{
		CustomerID: c.CustomerID, Domain: c.Domain, Band: c.Band(), Since: pg.UTC(r.Since), Cause: c.Cause, BroadcastPaused: c.Paused,
		Window: bandEventWindow{reputation.WindowDays, bandEventCounts{c.Window, c.Window.BounceRate(), c.Window.ComplaintRate()}},
	}
	if r.DomainID != "" {
		data.DomainID = &r.DomainID
	}
	event := "reputation." + string(c.Band())
	if err := webhooks.EnqueueOfCustomer(ctx, tx, c.CustomerID, event, r.TxNow, data); err != nil {
		return err
	}
	return audit.Write(ctx, tx, c.CustomerID, event, c.Domain, c.Cause)
}
