package advice

import "strings"

// Few e-mails say nothing about a stream's sender; a fifth of them makes one of
// several usual ones.
const (
	fewEmails  = 5
	usualShare = 5
)

// sender compares with the stream's last e-mails: a sender that stays the same
// earns a reputation.
func (l *letter) sender() verdict {
	switch u := l.facts.Senders; {
	case u.Total < fewEmails:
		return fine("The stream has too few e-mails yet to have a usual sender.")
	case strings.EqualFold(u.Address, l.From.Email):
		return fine("%d of the stream's last %d e-mails have this sender.", u.Count, u.Total)
	case u.Same*usualShare >= u.Total:
		return fine("%d of the stream's last %d e-mails have this sender, %d have %s.", u.Same, u.Total, u.Count, u.Address)
	case u.Count*2 < u.Total:
		return advise(l.From.Email, "The stream has no usual sender: of its last %d e-mails %d have %s, the most used, and %d this one. Filters and recipients trust who stays the same: use one address for each kind of mail.", u.Total, u.Count, u.Address, u.Same)
	default:
		return advise(l.From.Email, "%d of the stream's last %d e-mails come from %s, %d from this address. Filters and recipients trust who stays the same: keep the sender, or change it for all of the stream.", u.Count, u.Total, u.Address, u.Same)
	}
}
