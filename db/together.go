package db

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/postrider/postrider/email"
)

// together are the calls that many e-mails make at the same time: those that come
// while one is under way go with the next, in one transaction. What was passed over
// there, or failed with others, is done alone.
type together struct {
	accepts *group[acceptance, *email.Email]
	opens   *group[email.OpenRequest, email.Opening]
	marks   *group[email.Mark, bool]
	endings *group[email.Ending, bool]
	records *group[email.RecordStatusInput, *email.Recorded]
	chunks  *group[[]email.Ending, chunkRecord]
}

func newTogether(s *Store) together {
	return together{
		accepts: &group[acceptance, *email.Email]{call: s.acceptMany},
		opens:   &group[email.OpenRequest, email.Opening]{call: s.openMany},
		marks:   &group[email.Mark, bool]{call: s.markMany},
		endings: &group[email.Ending, bool]{call: s.finishMany},
		records: &group[email.RecordStatusInput, *email.Recorded]{call: s.recordMany},
		chunks: &group[[]email.Ending, chunkRecord]{call: func(ctx context.Context, chunks [][]email.Ending) ([]chunkRecord, error) {
			return s.recordChunks(ctx, s.changeFree, chunks)
		}},
	}
}

// acceptance is a message that only has to be stored.
type acceptance struct {
	customerID string
	m          email.Message
	owner      string
}

// togetherMax is how large a message may be that is accepted with others, in bytes.
const togetherMax = 64 << 10

// simple reports whether a message only has to be stored: it names nothing that has
// to be looked up, and no key that could make it wait for another request.
func simple(m email.Message, idem email.Idempotency) bool {
	return idem.Key == "" && len(m.Attachments) == 0 && m.CallbackURL == "" && m.Size() <= togetherMax
}

// acceptMany stores messages, each as an e-mail of its own. A single one is refused
// with its reason; of several, those that would be refused, or whose customer has to
// pay, are left out.
func (s *Store) acceptMany(ctx context.Context, as []acceptance) ([]*email.Email, error) {
	out := make([]*email.Email, len(as))
	if len(as) == 1 {
		e, _, err := s.acceptAlone(ctx, as[0].customerID, as[0].m, as[0].owner, email.Idempotency{})
		out[0] = &e
		return out, err
	}
	err := s.inChange(ctx, func(c *change) error {
		var mails []*mail
		used := map[string]*usage{}
		for i, a := range as {
			f, err := c.from(a.customerID, a.m.From.Domain())
			if err != nil {
				return err
			}
			if f.refusal != nil || f.prepaid {
				continue
			}
			id := newID()
			ml := c.newMail(id, a.customerID, a.m, f.wants, "")
			ml.WorkflowID = email.WorkflowIDPrefix + id
			c.order(ml, a.owner, c.now.Add(startLease))
			mails = append(mails, ml)
			used[a.customerID] = used[a.customerID].and(len(ml.recipients))
			e := emailOf(&ml.emailRow, ml.recipients, ml.content, nil)
			out[i] = &e
		}
		if err := c.insert(mails); err != nil {
			return err
		}
		// In one order, because others do the same at the same time.
		for _, u := range sortedUsage(used) {
			if err := c.charge(u.customerID, u.emails, u.recipients, false); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// sender is a customer's domain, from what was found out about it.
type sender struct{ customerID, domain string }

type from struct {
	wants   wanted
	prepaid bool
	// refusal is why the customer may not send from the domain; nil says that it may.
	refusal *email.Failure
}

// from asks about each sender once.
func (c *change) from(customerID, domain string) (from, error) {
	who := sender{customerID, domain}
	if f, known := c.froms[who]; known {
		return f, nil
	}
	var f from
	var err error
	f.wants, f.prepaid, err = c.acceptFrom(customerID, domain)
	if refusal, ok := errors.AsType[*email.Failure](err); ok && refusal.Code == email.CodeDomainUnverified {
		f.refusal, err = refusal, nil
	}
	if err != nil {
		return f, err
	}
	if c.froms == nil {
		c.froms = map[sender]from{}
	}
	c.froms[who] = f
	return f, nil
}

// usage is what a customer uses in a change.
type usage struct {
	customerID         string
	emails, recipients int
}

func (u *usage) and(recipients int) *usage {
	if u == nil {
		u = &usage{}
	}
	u.emails, u.recipients = u.emails+1, u.recipients+recipients
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
