package endpoint

// standardEvents are the types of the format standard. Those of e-mails are named
// in package email; a test holds the two together.
var standardEvents = []string{
	"email.queued", "email.scheduled", "email.sending", "email.deferred", "email.delivered", "email.bounced", "email.failed", "email.expired",
	"email.canceled", "email.suppressed", "email.ambiguous", "email.cancel_requested", "email.held", "email.resumed", "email.deleted", "email.completed",
	TypeDisabled,
}

// voipbinEvents are those of the format voipbin.
var voipbinEvents = []string{"email_created", "email_updated", "email_deleted"}

// defaultEvents are the outcomes: what a sender has to act upon.
var defaultEvents = []string{
	"email.deferred", "email.delivered", "email.bounced", "email.failed", "email.expired", "email.canceled", "email.completed",
}

// Events lists the types of a format.
func Events(f Format) []string {
	if f == FormatVoIPBIN {
		return append([]string(nil), voipbinEvents...)
	}
	return append([]string(nil), standardEvents...)
}

// DefaultEvents are what an endpoint gets that does not choose.
func DefaultEvents(f Format) []string {
	if f == FormatVoIPBIN {
		return append([]string(nil), voipbinEvents...)
	}
	return append([]string(nil), defaultEvents...)
}
