package mail

import (
	"cmp"

	"github.com/postrider/postrider/internal/delivery"
)

// senderIdentity is what a sender's domain gives the messages from it.
type senderIdentity struct {
	// BounceHost is the domain's own host of return paths, empty if there is none. It leads to BounceTarget.
	BounceHost   string `json:"bounce_host"`
	BounceTarget string `json:"bounce_target"`
	// DKIMKeys are the ids of its active keys, RSA first.
	DKIMKeys []string `json:"dkim_keys"`
}

// findSender is the senderIdentity of an e-mail e whose date is not fixed yet; NULL of others, and of a
// sender whose domain the customer does not have.
const findSender = `CASE WHEN e.date_at IS NULL AND e.dated_at IS NULL THEN (
		SELECT jsonb_build_object('bounce_host', d.bounce_host, 'bounce_target', d.bounce_target,
			'dkim_keys', (SELECT jsonb_agg(k.id ORDER BY k.algorithm DESC) FROM dkim_keys AS k WHERE k.domain_id = d.id AND k.state = 'active'))
		FROM domains AS d WHERE d.customer_id = e.customer_id AND d.name = lower(split_part(e.from_email, '@', -1))) END`

// settle decides what all attempts of an e-mail have besides its content: the token, the return path,
// the keys that sign, and where the link to unsubscribe by leads. Once the date of the message is fixed, that stays: a receiver knows a second
// copy by its bytes. It is to be called before DateAt is set.
func (s *Store) settle(e *emailRow, sender *senderIdentity) {
	if !e.date().IsZero() {
		return
	}
	if e.Token == "" {
		e.Token = delivery.NewToken()
	}
	if e.Unsubscribe { // the address when the e-mail was accepted, if this process does not know it
		e.LinkBase = cmp.Or(s.opts.LinkBase, e.LinkBase)
	}
	e.BounceHost, e.DKIMKeys = s.opts.BounceHost, nil
	if sender == nil {
		return
	}
	e.DKIMKeys = sender.DKIMKeys
	if e.BounceHost != "" && sender.BounceHost != "" && sender.BounceTarget == e.BounceHost {
		e.BounceHost = sender.BounceHost
	}
}
