package activities

import (
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func addresses(rs []delivery.EnvelopeRecipient) []string {
	out := make([]string, len(rs))
	for i, r := range rs {
		out[i] = r.Address
	}
	return out
}

// maskedOutcomes are the outcomes without mail addresses in their replies, for a history.
func maskedOutcomes(outs []delivery.Outcome, addrs []string) (masks []delivery.Outcome) {
	for _, out := range outs {
		out.Reply = masked(out.Reply, addrs)
		masks = append(masks, out)
	}
	return masks
}

func masked(r email.Reply, addrs []string) email.Reply {
	r.Text = email.MaskText(r.Text, addrs...)
	return r
}
