package delivery

import (
	"slices"
	"strconv"
	"strings"

	"github.com/postrider/postrider/email"
)

// The beginnings of texts of our own that a recipient shows in place of a relay's reply.
// NamingGroups reads them, so rows that were written with other words count as never asked.
const (
	// LostAtRcpt: the connection ended, without a reply, at the recipient's own RCPT.
	LostAtRcpt = "the connection ended at RCPT TO"
	// AcceptedInVain: the relay accepted the recipient, and the transaction ended before the message.
	AcceptedInVain = "accepted by the relay, but the transaction ended before the message"
)

// WasAccepted reports whether a recipient's last reply says that the relay accepted it, in a
// transaction that ended before the message.
func WasAccepted(last email.Reply) bool {
	return last.Code == 0 && strings.HasPrefix(last.Text, AcceptedInVain)
}

// AcceptedInVainBy is what a recipient shows that the relay accepted in a transaction which a reply, or a lost
// connection, ended. Its code is in the text: NamingGroups takes a 421 for one to RCPT.
func AcceptedInVainBy(r email.Reply) email.Reply {
	words := []string{r.Enhanced, r.Text}
	if r.Code != 0 {
		words = append([]string{strconv.Itoa(r.Code)}, words...)
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	return email.Reply{Text: AcceptedInVain + ": " + strings.Join(words, " ")}
}

// endsConnections reports whether a recipient's last reply says that the relay closed the connection
// at its RCPT (RFC 5321 section 3.8, RFC 7504 section 3).
func endsConnections(last email.Reply) bool {
	return last.Code == 421 || last.Code == 521 || last.Code == 0 && strings.HasPrefix(last.Text, LostAtRcpt)
}

// SaysMore reports whether a recipient's last reply says more than that it waits for its turn: it is a
// relay's reply, or NamingGroups needs it.
func SaysMore(last email.Reply) bool {
	return last.Code != 0 || endsConnections(last) || WasAccepted(last)
}

// NamingGroups returns the EnvelopeRecipient.Group of each open recipient of an e-mail, by their last
// replies. Those at whom the relay closed the connection are the last group. Each closed connection
// shows one such recipient. So if there are two, those that the relay accepted go first, without the
// others, of whom a further one may close the connection.
func NamingGroups(last []email.Reply) []int {
	groups, closers, accepted := make([]int, len(last)), 0, false
	for _, r := range last {
		if endsConnections(r) {
			closers++
		}
		accepted = accepted || WasAccepted(r)
	}
	for i, r := range last {
		switch {
		case endsConnections(r):
			groups[i] = 2
		case closers > 1 && accepted && !WasAccepted(r):
			groups[i] = 1
		}
	}
	return groups
}
