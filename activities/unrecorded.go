package activities

import (
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/delivery"
)

// keep stores an exchange whose outcomes could not be written, for keepUnrecorded. The caller
// holds xs.mu.
func (xs *exchanges) keep(key exchangeKey, x *exchange) {
	if _, ok := xs.unrecorded[key]; ok {
		return
	}
	xs.unrecorded[key] = x
	time.AfterFunc(keepUnrecorded, func() { xs.forget(key) })
}

// keepLot stores the attempts of a batch's lot whose outcomes could not be written.
func (xs *exchanges) keepLot(batchID string, lost []delivery.UnrecordedAttempt) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	for _, u := range lost {
		x := &exchange{done: make(chan struct{}), batchID: batchID, owner: u.Owner,
			result: delivery.SendSMTPResult{Attempt: u.Attempt, Relay: u.Relay, Sent: true, Unrecorded: u.Outcomes}}
		if len(u.Outcomes) > 0 {
			x.result.Reply = u.Outcomes[0].Reply
		}
		close(x.done)
		xs.keep(exchangeKey{u.EmailID, u.Attempt}, x)
	}
}

// lotUnrecorded returns the attempts of a batch that keepLot stored, ordered by e-mail id.
func (xs *exchanges) lotUnrecorded(batchID string) (lost []delivery.UnrecordedAttempt) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	for key, x := range xs.unrecorded {
		if x.batchID == batchID {
			lost = append(lost, delivery.UnrecordedAttempt{EmailID: key.emailID, Attempt: key.attempt, Owner: x.owner, Relay: x.result.Relay, Outcomes: x.result.Unrecorded})
		}
	}
	slices.SortFunc(lost, func(a, b delivery.UnrecordedAttempt) int { return strings.Compare(a.EmailID, b.EmailID) })
	return lost
}

// forget removes the outcomes of an attempt: they are recorded, or keepUnrecorded has passed.
func (xs *exchanges) forget(key exchangeKey) {
	xs.mu.Lock()
	defer xs.mu.Unlock()
	delete(xs.unrecorded, key)
}
