package mail

import (
	"context"
	"fmt"
	"time"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/suppressions"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/suppression"
)

// suppressedBy is the entry of a suppression list that covers a recipient.
type suppressedBy struct {
	Recipient string             `json:"recipient"`
	Entry     string             `json:"entry"`
	Scope     suppression.Scope  `json:"scope"`
	Target    string             `json:"target"`
	Reason    suppression.Reason `json:"reason"`
	CreatedAt time.Time          `json:"created_at"`
}

// findSuppressed are, as suppressedBy, the entries of all scopes about the recipients of an e-mail e that no attempt
// is open at.
var findSuppressed = `CASE WHEN e.status IN ('queued', 'sending') AND NOT e.attempt_open AND NOT e.ignore_suppressions
		AND EXISTS (SELECT 1 FROM suppressions AS s WHERE s.customer_id = e.customer_id) THEN (
		SELECT jsonb_agg(jsonb_build_object('recipient', r.id, 'entry', su.id, 'scope', su.scope, 'target', su.target, 'reason', su.reason, 'created_at', su.created_at))
		FROM recipients AS r CROSS JOIN LATERAL (` + suppressions.About("e.customer_id", "r.address", "r.address_key") + `) AS su
		WHERE r.email_id = e.id AND r.status IN ('queued', 'deferred')) END`

// suppress ends the recipients of an e-mail that are due and that its customer's suppression list has
// now. The others go on.
func (c *unitOfWork) suppress(m *lockedEmail) {
	for _, r := range m.recipients {
		if by, found := m.suppressed[r.ID]; found && due(r, c.now) {
			c.endSuppressed(m, r, by)
		}
	}
}

func (c *unitOfWork) endSuppressed(m *lockedEmail, r *recipientRow, by suppressedBy) {
	r.SuppressedBy = by.Entry
	if r.SMTPCode == 0 {
		r.setReply(email.Reply{Text: suppressionText(by)})
	}
	c.endUnsent(m, r, email.RecipientSuppressed, email.DetailSuppressed)
}

func suppressionText(by suppressedBy) string {
	return fmt.Sprintf("on the suppression list since %s: %s", by.CreatedAt.UTC().Format("2006-01-02"), by.Reason)
}

// suppressNew ends those recipients of new e-mails that a suppression list has, and that are due.
func (c *unitOfWork) suppressNew(mails []*lockedEmail) error {
	if err := c.readSuppressed(mails); err != nil {
		return err
	}
	for _, m := range mails {
		if len(m.suppressed) > 0 {
			c.suppress(m)
			c.deriveStatus(m)
		}
	}
	return nil
}

// charged is how many recipients of a new e-mail cost credits: those that are suppressed do not.
func (m *lockedEmail) charged() (n int) {
	for _, r := range m.recipients {
		if r.Status != email.RecipientSuppressed {
			n++
		}
	}
	return n
}

// readSuppressed asks what suppression lists have of the open recipients of e-mails, in one statement.
func (c *unitOfWork) readSuppressed(mails []*lockedEmail) error {
	type asked struct {
		m *lockedEmail
		r *recipientRow
	}
	var who []asked
	var lookups []suppressions.Lookup
	for _, m := range mails {
		for _, r := range m.recipients {
			if r.Status.Open() && !m.IgnoreSuppressions {
				who = append(who, asked{m, r})
				lookups = append(lookups, suppressions.Lookup{CustomerID: m.CustomerID, Key: r.AddressKey, Address: r.Address})
			}
		}
	}
	if len(lookups) == 0 {
		return nil
	}
	found, err := suppressions.Of(c.ctx, c.tx, lookups)
	if err != nil {
		return err
	}
	for i, entries := range found {
		for _, e := range entries {
			who[i].m.noteSuppressed(suppressedBy{who[i].r.ID, e.ID, e.Scope, e.Target, e.Reason, e.CreatedAt})
		}
	}
	return nil
}

// noteSuppressed notes an entry about a recipient, if it covers such mail. Of several, the last one counts.
func (m *lockedEmail) noteSuppressed(by suppressedBy) {
	if !(suppression.Entry{Scope: by.Scope, Target: by.Target}).Covers(m.Stream, m.Topic) {
		return
	}
	if m.suppressed == nil {
		m.suppressed = map[string]suppressedBy{}
	}
	m.suppressed[by.Recipient] = by
}

// addKeys gives recipients keys that a version without suppressions has stored, and asks for their entries.
func (c *unitOfWork) addKeys(mails []*lockedEmail) error {
	var old []*lockedEmail
	for _, m := range mails {
		without := false
		for _, r := range m.recipients {
			if r.AddressKey == "" && r.Status.Open() {
				r.AddressKey, without = c.addressKeys.Key(r.Address), true
			}
		}
		if without && !m.AttemptOpen {
			old = append(old, m)
		}
	}
	return c.readSuppressed(old)
}

// bounced notes a recipient whose address does not exist, for its customer's suppression list.
func (c *unitOfWork) bounced(m *lockedEmail, r *recipientRow) {
	c.suppressions = append(c.suppressions, c.entryFor(m, r, suppression.HardBounce))
}

func (c *unitOfWork) entryFor(m *lockedEmail, r *recipientRow, reason suppression.Reason) suppression.Entry {
	return suppression.Entry{
		ID: pg.NewID(), CustomerID: m.CustomerID, Key: r.AddressKey, Address: r.Address, Scope: suppression.ScopeAll,
		Reason: reason, Source: suppression.FromDelivery, EmailID: m.ID,
	}
}

// softFailures finds the recipients of changed e-mails that have failed for a temporary reason of their own
// server. It suppresses the addresses to which that has happened too often.
func (c *unitOfWork) softFailures(mails []*lockedEmail) error {
	for _, m := range mails {
		for _, r := range m.recipients {
			if r.Status == m.recipientsBefore[r.ID] || !softFailure(r) {
				continue
			}
			var before []pastEnd
			err := findHistory.Query(c.tx, m.CustomerID, r.Address, m.ID, suppression.SoftFailures.InARow-1, r.ID).Scan(c.ctx, &before)
			if err != nil {
				return fmt.Errorf("read the history of a recipient: %w", err)
			}
			if !tooManySoft(before, r.Status, c.now) {
				continue
			}
			e := c.entryFor(m, r, suppression.SoftBounces)
			e.Scope, e.Target = suppression.ScopeOf("")
			e.ExpiresAt = c.now.Add(suppression.SoftFailures.Expires)
			c.suppressions = append(c.suppressions, e)
		}
	}
	return nil
}

// pastEnd is an end of a recipient with the same address, of another e-mail.
type pastEnd struct {
	recipientRow
	// LastDeferral is the reason of the last deferral before it, and Deferral that of the present recipient.
	LastDeferral email.Detail
	Deferral     email.Detail
}

const lastDeferral = `(SELECT ev.reason FROM email_events AS ev WHERE ev.email_id = %s AND ev.recipient_id = %s AND ev.type = 'email.deferred' ORDER BY ev.sequence DESC LIMIT 1)`

// findHistory are the recipients of a customer's other e-mails with an address that have come to an end by an
// attempt, the last first.
var findHistory = pg.Prepare("find_history(uuid, text, uuid, bigint, uuid)", `SELECT r.status, r.reason, r.smtp_code, r.enhanced_code, r.status_at,
		coalesce(`+fmt.Sprintf(lastDeferral, "r.email_id", "r.id")+`, '') AS last_deferral, coalesce(`+fmt.Sprintf(lastDeferral, "$3", "$5")+`, '') AS deferral
	FROM recipients AS r JOIN emails AS e ON e.id = r.email_id
	WHERE lower(r.address) = lower($2) AND r.address = $2 AND e.customer_id = $1 AND e.id <> $3 AND r.attempts > 0
		AND r.status IN ('delivered', 'bounced', 'failed', 'expired', 'complained')
	ORDER BY r.status_at DESC LIMIT $4`)

// tooManySoft applies suppression.SoftFailures to a soft failure and the ends before it. A deferral with a
// reason, as ip_blocked, is not for a reason of the address's server.
func tooManySoft(before []pastEnd, status email.RecipientStatus, now time.Time) bool {
	if len(before) < suppression.SoftFailures.InARow-1 || status == email.RecipientExpired && before[0].Deferral != "" {
		return false
	}
	for i := range before {
		if b := &before[i]; !softFailure(&b.recipientRow) || b.Status == email.RecipientExpired && b.LastDeferral != "" {
			return false
		}
	}
	return !before[len(before)-1].StatusAt.After(now.Add(-suppression.SoftFailures.Over))
}

// softFailure reports whether a recipient has ended because its own server took no mail for it for the
// time being: 4.x.x, or 5.2.2 of a full mailbox. Policy (x.7.x) is not about the address.
func softFailure(r *recipientRow) bool {
	if len(r.Enhanced) > 2 && r.Enhanced[2] == '7' {
		return false
	}
	switch r.Status {
	case email.RecipientBounced:
		return r.Reason == email.DetailSoft
	case email.RecipientExpired:
		return r.Reason == email.DetailExpired && r.SMTPCode >= 400 && r.SMTPCode < 500
	}
	return false
}

// suspendWithin bounds the writing down that a circuit has opened.
const suspendWithin = 10 * time.Second

// watchCircuits tells the circuits what has become of recipients, after the commit.
func (c *unitOfWork) watchCircuits() {
	for _, m := range c.emails {
		for _, r := range m.recipients {
			ended := r.Status == email.RecipientDelivered || r.Status == email.RecipientBounced
			if !ended || r.Status == m.recipientsBefore[r.ID] {
				continue
			}
			domain := email.DomainOf(r.Address)
			if !c.s.circuits.Note(m.CustomerID, domain, r.Reason == email.DetailHard, c.now) {
				continue
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), suspendWithin)
			takenBack, err := c.s.suppressions.Suspend(ctx, m.CustomerID, domain)
			cancel()
			if err != nil {
				c.s.opts.Log.Error("suppressions.suspend", "customer_id", m.CustomerID, "domain", domain, "error", err)
				continue
			}
			c.s.opts.Log.Warn("suppressions.suspended", "customer_id", m.CustomerID, "domain", domain, "taken_back", takenBack, "for", suppression.CircuitOpen)
		}
	}
}
