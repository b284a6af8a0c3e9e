package delivery

import "github.com/postrider/postrider/email"

// EventFor is the event that a recipient's entering a state stands for.
func EventFor(s email.RecipientStatus) email.EventType {
	switch s {
	case email.RecipientDeferred:
		return email.EventDeferred
	case email.RecipientDelivered:
		return email.EventDelivered
	case email.RecipientBounced:
		return email.EventBounced
	case email.RecipientFailed:
		return email.EventFailed
	case email.RecipientCanceled:
		return email.EventCanceled
	case email.RecipientExpired:
		return email.EventExpired
	case email.RecipientSuppressed:
		return email.EventSuppressed
	}
	return ""
}

// transitions lists, for each state, the states it may be entered from.
// Nothing leaves sending but the closing of the attempt that owns it: a
// cancel or an expiry meanwhile is remembered on the e-mail and applied to
// what that closing deferred.
var transitions = map[email.RecipientStatus][]email.RecipientStatus{
	email.RecipientQueued:     {email.RecipientSending}, // a relay's fault ended its first attempt
	email.RecipientSending:    {email.RecipientQueued, email.RecipientDeferred},
	email.RecipientDeferred:   {email.RecipientSending},
	email.RecipientDelivered:  {email.RecipientSending},
	email.RecipientBounced:    {email.RecipientSending, email.RecipientDelivered},
	email.RecipientFailed:     {email.RecipientSending, email.RecipientQueued, email.RecipientDeferred},
	email.RecipientCanceled:   {email.RecipientQueued, email.RecipientDeferred},
	email.RecipientExpired:    {email.RecipientQueued, email.RecipientDeferred},
	email.RecipientSuppressed: {email.RecipientQueued, email.RecipientDeferred},
	email.RecipientComplained: {email.RecipientDelivered},
}

// EnteredFrom returns the states from which a recipient may move to s. An
// empty answer means that s is only ever a first state.
func EnteredFrom(s email.RecipientStatus) []email.RecipientStatus {
	return append([]email.RecipientStatus(nil), transitions[s]...)
}

// CanMove reports whether a recipient may go from one state to another. A
// refused transition changes nothing and is no error: another transaction was faster.
func CanMove(from, to email.RecipientStatus) bool {
	for _, s := range transitions[to] {
		if s == from {
			return true
		}
	}
	return false
}
