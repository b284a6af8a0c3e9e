package email

// RecipientFact is what Derive needs to know of one recipient.
type RecipientFact struct {
	Status RecipientStatus
	// Reason is why the recipient is in that state; empty for queued, sending
	// and delivered.
	Reason Detail
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
func Derive(f Facts) (Status, Detail) {
	var open, ended, delivered, bounced, failed, deferred int
	for _, r := range f.Recipients {
		switch {
		case r.Status.Open():
			open++
			if r.Status == RecipientDeferred {
				deferred++
			}
			continue
		case r.Status == RecipientDelivered, r.Status == RecipientComplained:
			delivered++
		case r.Status == RecipientBounced, r.Status == RecipientSuppressed:
			bounced++
		case r.Status == RecipientFailed, r.Status == RecipientExpired:
			failed++
		}
		ended++
	}
	if open > 0 || len(f.Recipients) == 0 {
		status := StatusQueued
		if f.Attempted {
			status = StatusSending
		}
		return status, openDetail(f, ended > 0, deferred > 0)
	}
	switch {
	case delivered > 0:
		return StatusDelivered, finalDetail(f.Recipients)
	case bounced > 0:
		return StatusBounced, finalDetail(f.Recipients)
	case failed > 0:
		return StatusFailed, finalDetail(f.Recipients)
	}
	return StatusCanceled, finalDetail(f.Recipients)
}

// openDetail is the first that applies, in the order that DESIGN fixes: what
// somebody decided, then what the world does to us, then what the recipients do.
func openDetail(f Facts, partial, deferred bool) Detail {
	switch {
	case f.Held:
		return DetailHeld
	case f.Scheduled:
		return DetailScheduled
	case f.NoRelay:
		return DetailNoRelay
	case f.RelayDown:
		return DetailRelayDown
	case f.Throttled:
		return DetailThrottled
	case partial:
		return DetailPartial
	case deferred:
		return DetailDeferred
	}
	return ""
}

// finalDetail never hides the rest: an ambiguous recipient first, then that
// the recipients ended differently, else the reason they share.
func finalDetail(rs []RecipientFact) Detail {
	same, sameReason := true, true
	for _, r := range rs {
		if r.Reason == DetailAmbiguous {
			return DetailAmbiguous
		}
		same = same && r.Status == rs[0].Status
		sameReason = sameReason && r.Reason == rs[0].Reason
	}
	switch {
	case !same:
		return DetailPartial
	case sameReason:
		return rs[0].Reason
	}
	return DetailOther
}
