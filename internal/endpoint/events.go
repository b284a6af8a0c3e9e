package endpoint

// standardEvents are the types of the format standard that an endpoint may choose.
// Those of e-mails are named in package email; tests hold the two together, and see
// every one fire.
var standardEvents = []string{
	"email.queued", "email.scheduled", "email.sending", "email.deferred", "email.delivered", "email.bounced", "email.failed", "email.expired",
	"email.canceled", "email.suppressed", "email.unsubscribed", "email.resubscribed", "email.ambiguous", "email.cancel_requested", "email.held", "email.resumed", "email.deleted", "email.completed",
	TypeFailing, TypeDisabled, TypeDomainVerified, TypeDomainWarning, TypeDomainFailed,
	TypeReputationWarning, TypeReputationCritical,
}

// voipbinEvents are those of the format voipbin.
var voipbinEvents = []string{"email_created", "email_updated", "email_deleted"}

// defaultEvents are the outcomes: what a sender has to act upon.
var defaultEvents = []string{
	"email.deferred", "email.delivered", "email.bounced", "email.failed", "email.expired", "email.canceled", "email.suppressed",
	"email.unsubscribed", "email.resubscribed", "email.completed",
}

// voipbinOf says which events of an e-mail VoIPBIN's stand for. A rescheduled e-mail
// is updated, not made again.
var voipbinOf = map[string][]string{
	"email_created": {"email.queued", "email.scheduled"},
	"email_updated": {"email.sending", "email.deferred", "email.completed", "email.scheduled"},
	"email_deleted": {"email.deleted"},
}

// EmailEvents are the events of e-mails behind types of a format.
func EmailEvents(f Format, types []string) []string {
	if f != FormatVoIPBIN {
		return types
	}
	var out []string
	for _, t := range types {
		out = append(out, voipbinOf[t]...)
	}
	return out
}

// Events lists the types of a format.
func Events(f Format) []string {
	if f == FormatVoIPBIN {
		return append([]string(nil), voipbinEvents...)
	}
	return append([]string(nil), standardEvents...)
}

// DefaultEvents are what an endpoint gets that does not choose: the outcomes, and
// word of other endpoints that fail, of sender domains and of their reputations.
func DefaultEvents(f Format) []string {
	if f == FormatVoIPBIN {
		return append([]string(nil), voipbinEvents...)
	}
	return append(Outcomes(), TypeFailing, TypeDisabled, TypeDomainVerified, TypeDomainWarning, TypeDomainFailed, TypeReputationWarning, TypeReputationCritical)
}

// Outcomes are the types of events that a callback gets.
func Outcomes() []string { return append([]string(nil), defaultEvents...) }
