package mail

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/db/webhooks"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/fairqueue"
)

// coalescers put calls together that many e-mails make at the same time: calls that arrive while
// one is under way go with the next, in one transaction. A call that was left out there, or failed
// with others, is repeated alone.
//
// Acceptances come from customers, who take turns, and whose backlog is bounded. All others come
// from the process's own workers, whose slots bound how many wait. They have one queue, and none is
// refused, because the reply of a relay has to be recorded.
type coalescers struct {
	accepts *pg.Coalescer[acceptance, *email.Email]
	// solo bounds the acceptances that are under way each in a transaction of its own.
	solo    *pg.Slots
	opens   *pg.Coalescer[delivery.OpenRequest, delivery.Opening]
	marks   *pg.Coalescer[delivery.Mark, bool]
	endings *pg.Coalescer[delivery.Ending, delivery.Conclusion]
	records *pg.Coalescer[delivery.RecordStatusInput, *delivery.Recorded]
	chunks  *pg.Coalescer[[]delivery.Ending, chunkRecord]
}

func newCoalescers(s *Store) coalescers {
	return coalescers{
		accepts: pg.NewCoalescer(pg.CoalescerOptions[acceptance, *email.Email]{
			Call: s.acceptMany, Owner: acceptance.customer, Weight: acceptance.weight, MaxWeight: acceptWeight, Backlog: acceptBacklog,
		}),
		solo:    pg.NewSlots(max(1, s.opts.MaxConns*2/5), acceptBacklog),
		opens:   pg.NewCoalescer(pg.CoalescerOptions[delivery.OpenRequest, delivery.Opening]{Call: s.openMany}),
		marks:   pg.NewCoalescer(pg.CoalescerOptions[delivery.Mark, bool]{Call: s.markMany}),
		endings: pg.NewCoalescer(pg.CoalescerOptions[delivery.Ending, delivery.Conclusion]{Call: s.concludeMany}),
		records: pg.NewCoalescer(pg.CoalescerOptions[delivery.RecordStatusInput, *delivery.Recorded]{Call: s.recordMany}),
		chunks: pg.NewCoalescer(pg.CoalescerOptions[[]delivery.Ending, chunkRecord]{Call: func(ctx context.Context, chunks [][]delivery.Ending) ([]chunkRecord, error) {
			return s.recordChunks(ctx, s.updateFree, chunks)
		}}),
	}
}

// acceptance is a message to be stored as an e-mail of a customer.
type acceptance struct {
	// id is the e-mail's, workflowID its run's. Empty ones are made.
	id, workflowID string
	customerID     string
	message        email.Message
	// owner is the process that starts the run; it has the lease of the outbox row. Empty: the
	// run is there, and there is no such row.
	owner string
}

func (a acceptance) customer() string { return a.customerID }

// acceptBacklog bounds the acceptances that wait. A customer beyond its own part is refused;
// where all of them are too many, those that have most.
var acceptBacklog = pg.Backlog{Max: fairqueue.Max{Owner: 512, All: 2048}, Refuse: errBacklog}

// errBacklog refuses what would have to wait behind too much of the same kind.
func errBacklog() error {
	return email.Fail(email.CodeUnavailable, "too many e-mails wait to be stored; try again shortly")
}

// acceptWeight bounds what one transaction stores of several messages. A recipient, or 4 KiB of
// text, weighs 1; they take Postgres about the same time. On two busy cores (load 20) a transaction
// of 64 messages with 50 recipients each took 640 ms. One of this weight took 50 to 100 ms, and a
// message in it no longer.
const (
	acceptWeight = 512
	weightBytes  = 4 << 10
)

func (a acceptance) weight() int {
	return len(a.message.To) + len(a.message.Cc) + len(a.message.Bcc) + storedBytes(a.message)/weightBytes
}

// Waiting tells how many calls of each kind wait in this process for a transaction.
func (s *Store) Waiting() map[string]int {
	return counts(s, func(waiting int, _ int64) int { return waiting })
}

// Refused counts, since the process began, the calls of each kind that were refused because
// too many were waiting.
func (s *Store) Refused() map[string]int64 {
	return counts(s, func(_ int, refused int64) int64 { return refused })
}

func counts[N any](s *Store, which func(waiting int, refused int64) N) map[string]N {
	return map[string]N{
		"accept": which(s.accepts.Count()), "accept_alone": which(s.solo.Count()), "open": which(s.opens.Count()),
		"mark": which(s.marks.Count()), "finish": which(s.endings.Count()), "record": which(s.records.Count()), "record_chunk": which(s.chunks.Count()),
	}
}

// sharedMessageMax is how large a message may be that is accepted with others, in bytes.
const sharedMessageMax = 64 << 10

// mayShareTransaction reports whether a message only has to be stored: it names nothing that has
// to be looked up, and no key that could make it wait for another request. The audit log does not note
// on whose behalf it is stored.
func mayShareTransaction(m email.Message, idem email.Idempotency) bool {
	return idem.Key == "" && len(m.Attachments) == 0 && m.CallbackURL == "" && !m.IgnoreSuppressions && m.Size() <= sharedMessageMax
}

// senderKey is a customer's domain, from what was found out about it.
type senderKey struct{ customerID, domain string }

type senderCheck struct {
	subscriptions webhooks.Subscriptions
	prepaid       bool
	// suppresses: the customer has a suppression list.
	suppresses bool
	// refusal is why the customer may not send from the domain; nil says that it may.
	refusal *email.Failure
}

// sender asks about each sender once.
func (c *unitOfWork) sender(customerID, domain string) (senderCheck, error) {
	who := senderKey{customerID, domain}
	if f, known := c.senders[who]; known {
		return f, nil
	}
	f, err := c.checkSender(customerID, domain)
	if refusal, ok := errors.AsType[*email.Failure](err); ok && refusal.Code == email.CodeDomainUnverified {
		f.refusal, err = refusal, nil
	}
	if err != nil {
		return f, err
	}
	if c.senders == nil {
		c.senders = map[senderKey]senderCheck{}
	}
	c.senders[who] = f
	return f, nil
}

// usage is what a customer uses in a transaction.
type usage struct {
	customerID         string
	emails, recipients int
	prepaid            bool
}

func (u *usage) and(recipients int, prepaid bool) *usage {
	if u == nil {
		u = &usage{}
	}
	u.emails, u.recipients, u.prepaid = u.emails+1, u.recipients+recipients, prepaid
	return u
}

func sortedUsage(used map[string]*usage) []*usage {
	out := make([]*usage, 0, len(used))
	for id, u := range used {
		u.customerID = id
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b *usage) int { return cmp.Compare(a.customerID, b.customerID) })
	return out
}
