package email

import "slices"

// Status is the state of a whole e-mail, derived from its recipients'.
type Status string

// The states of an e-mail.
const (
	// StatusQueued: accepted, no attempt has opened yet. It promises that the
	// mail is stored, not that a relay is reachable.
	StatusQueued Status = "queued"
	// StatusSending: an attempt has opened and at least one recipient is open. An e-mail never
	// returns from it to queued.
	StatusSending Status = "sending"
	// StatusDelivered: no recipient is open and the next hop accepted the mail
	// for at least one. It does not promise an inbox.
	StatusDelivered Status = "delivered"
	// StatusBounced: no recipient is open, none was accepted, at least one was
	// refused by its server or suppressed.
	StatusBounced Status = "bounced"
	// StatusFailed: no recipient is open, and the cause is Postrider's or the sender's:
	// attachment, sender rejected, too large, expired, ambiguous with on_ambiguous fail.
	StatusFailed Status = "failed"
	// StatusCanceled: every recipient was canceled before the message was sent to it.
	StatusCanceled Status = "canceled"
)

// Final reports whether the e-mail is finished: no attempt follows.
func (s Status) Final() bool {
	switch s {
	case StatusDelivered, StatusBounced, StatusFailed, StatusCanceled:
		return true
	}
	return false
}

// Detail is the reason behind a Status, or what the e-mail waits for. Empty means none.
type Detail string

// Details of an open e-mail, in order of precedence.
const (
	DetailHeld      Detail = "held"
	DetailScheduled Detail = "scheduled"
	// DetailNoRelay: no configured relay takes mail of this stream and sender's domain.
	DetailNoRelay Detail = "no_relay"
	// DetailRelayDown: no relay for the e-mail takes mail at the moment.
	DetailRelayDown Detail = "relay_down"
	DetailThrottled Detail = "throttled"
	DetailPartial   Detail = "partial"
	DetailDeferred  Detail = "deferred"
)

// Details of a finished e-mail, and reasons of a recipient's state. Ambiguous takes precedence
// over partial, and partial over a reason that all recipients have.
const (
	DetailAmbiguous      Detail = "ambiguous"
	DetailHard           Detail = "hard"
	DetailSoft           Detail = "soft"
	DetailBlock          Detail = "block"
	DetailOther          Detail = "other"
	DetailSuppressed     Detail = "suppressed"
	DetailExpired        Detail = "expired"
	DetailTooLarge       Detail = "too_large"
	DetailSenderRejected Detail = "sender_rejected"
	DetailAttachment     Detail = "attachment"
	DetailUnsendable     Detail = "unsendable"
)

// Reasons of a deferred recipient, and details of an e-mail whose deferred recipients all have the same one. The
// recipient keeps its place on the schedule, and is expired at the end of its time. Neither says anything of its mailbox.
const (
	// DetailIPBlocked: the recipient's server refuses the relay's address or the sender's domain. It is on a list, or its
	// reputation is bad.
	DetailIPBlocked Detail = "ip_blocked"
	// DetailUnauthenticated: the mail does not pass the server's checks of SPF, DKIM or DMARC. After a permanent
	// refusal the next attempt comes two days later or more, after a temporary one an hour later or more.
	DetailUnauthenticated Detail = "unauthenticated"
)

// RecipientStatus is the state of one recipient. Opened, clicked and
// unsubscribed are events, never states.
type RecipientStatus string

// The states of a recipient.
const (
	// RecipientQueued: never attempted, or all attempts failed for a fault of the relay.
	RecipientQueued RecipientStatus = "queued"
	// RecipientSending: part of the attempt that is open now.
	RecipientSending RecipientStatus = "sending"
	// RecipientDeferred: attempted, to be tried again at next_attempt_at.
	RecipientDeferred RecipientStatus = "deferred"
	// RecipientDelivered: accepted by the next hop (RFC 5321 section 6.1).
	RecipientDelivered RecipientStatus = "delivered"
	// RecipientBounced: permanently refused by the recipient's server.
	RecipientBounced RecipientStatus = "bounced"
	// RecipientFailed: failed for a cause of Postrider or the sender.
	RecipientFailed RecipientStatus = "failed"
	// RecipientCanceled: canceled before the message was sent to it.
	RecipientCanceled RecipientStatus = "canceled"
	// RecipientExpired: the time for attempts ran out.
	RecipientExpired RecipientStatus = "expired"
	// RecipientSuppressed: on the suppression list, never attempted.
	RecipientSuppressed RecipientStatus = "suppressed"
	// RecipientComplained: delivered, later reported as spam.
	RecipientComplained RecipientStatus = "complained"
)

// Open reports whether the recipient may still be attempted.
func (s RecipientStatus) Open() bool {
	switch s {
	case RecipientQueued, RecipientSending, RecipientDeferred:
		return true
	}
	return false
}

// RecipientStatuses lists every state, in the order of a recipient's life.
func RecipientStatuses() []RecipientStatus {
	return []RecipientStatus{
		RecipientQueued, RecipientSending, RecipientDeferred, RecipientDelivered, RecipientBounced,
		RecipientFailed, RecipientCanceled, RecipientExpired, RecipientSuppressed, RecipientComplained,
	}
}

// Statuses lists every state of an e-mail, in the order of its life.
func Statuses() []Status {
	return []Status{StatusQueued, StatusSending, StatusDelivered, StatusBounced, StatusFailed, StatusCanceled}
}

// statusAliases are the statuses of VoIPBIN's e-mail API, which filters accept.
var statusAliases = map[string]Status{
	"initiated": StatusQueued,
	"processed": StatusSending,
}

// ParseStatus reads a status of this API or of VoIPBIN's e-mail API.
func ParseStatus(s string) (Status, bool) {
	if alias, ok := statusAliases[s]; ok {
		return alias, true
	}
	st := Status(s)
	return st, slices.Contains(Statuses(), st)
}
