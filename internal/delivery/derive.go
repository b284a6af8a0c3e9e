package delivery

import "github.com/postrider/postrider/email"

// RecipientFact is what Derive needs to know of one recipient.
type RecipientFact struct {
	Status email.RecipientStatus
	// Reason is why the recipient is in that state; empty for queued, sending
	// and delivered.
	Reason email.Detail
}

// Facts is all that an e-mail's status depends on.
type Facts struct {
	Recipients []RecipientFact
	// Attempted: an attempt has opened at least once.
	Attempted bool
	Held      bool
	// Scheduled: the first attempt is due in the future, because the client said so.
	Scheduled bool
	RelayDown bool
	// NoRelay: no configured relay takes mail like this one.
	NoRelay   bool
	Throttled bool
}

// Derive computes an e-mail's status and its detail from its recipients. It is
// the only place that does.
func Derive(f Facts) (email.Status, email.Detail) {
	var open, ended, delivered, bounced, failed int
	var deferred []email.Detail // the reasons
	for _, r := range f.Recipients {
		switch {
		case r.Status.Open():
			open++
			if r.Status == email.RecipientDeferred {
				deferred = append(deferred, r.Reason)
			}
			continue
		case r.Status == email.RecipientDelivered, r.Status == email.RecipientComplained:
			delivered++
		case r.Status == email.RecipientBounced, r.Status == email.RecipientSuppressed:
			bounced++
		case r.Status == email.RecipientFailed, r.Status == email.RecipientExpired:
			failed++
		}
		ended++
	}
	if open > 0 || len(f.Recipients) == 0 {
		status := email.StatusQueued
		if f.Attempted {
			status = email.StatusSending
		}
		return status, openDetail(f, ended > 0, deferred)
	}
	switch {
	case delivered > 0:
		return email.StatusDelivered, finalDetail(f.Recipients)
	case bounced > 0:
		return email.StatusBounced, finalDetail(f.Recipients)
	case failed > 0:
		return email.StatusFailed, finalDetail(f.Recipients)
	}
	return email.StatusCanceled, finalDetail(f.Recipients)
}

// openDetail is the first that applies: decisions of customers and operators first, then
// the state of relays and rates, then that of the recipients.
//
// deferred are the reasons of the deferred recipients.
func openDetail(f Facts, partial bool, deferred []email.Detail) email.Detail {
	switch {
	case f.Held:
		return email.DetailHeld
	case f.Scheduled:
		return email.DetailScheduled
	case f.NoRelay:
		return email.DetailNoRelay
	case f.RelayDown:
		return email.DetailRelayDown
	case f.Throttled:
		return email.DetailThrottled
	case partial:
		return email.DetailPartial
	case len(deferred) > 0:
		return deferredDetail(deferred)
	}
	return ""
}

// deferredDetail says what the operator or the sender has to change, if that is the reason of all.
func deferredDetail(reasons []email.Detail) email.Detail {
	for _, r := range reasons {
		if r != reasons[0] {
			return email.DetailDeferred
		}
	}
	if r := reasons[0]; r == email.DetailIPBlocked || r == email.DetailUnauthenticated {
		return r
	}
	return email.DetailDeferred
}

// finalDetail never hides the rest: an ambiguous recipient first, then that
// the recipients ended differently, else the reason they share.
func finalDetail(rs []RecipientFact) email.Detail {
	same, sameReason := true, true
	for _, r := range rs {
		if r.Reason == email.DetailAmbiguous {
			return email.DetailAmbiguous
		}
		same = same && r.Status == rs[0].Status
		sameReason = sameReason && r.Reason == rs[0].Reason
	}
	switch {
	case !same:
		return email.DetailPartial
	case sameReason:
		return rs[0].Reason
	}
	return email.DetailOther
}
