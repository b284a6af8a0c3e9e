package mail

import (
	"context"
	"maps"
	"slices"

	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/internal/delivery"
)

// Conclude writes an attempt's outcomes into the journal, as Finish does, and records them in the
// same transaction, as Record would. It never waits for an e-mail's lock. If another transaction has
// it, or recording fails, only the journal is written.
func (s *Store) Conclude(ctx context.Context, ending delivery.Ending) (delivery.Conclusion, error) {
	out, _, err := s.endings.Do(ctx, ending)
	if err == nil || ctx.Err() != nil {
		return out, err
	}
	ours, err := s.Finish(ctx, []delivery.Ending{ending})
	if err != nil {
		return delivery.Conclusion{}, err
	}
	return delivery.Conclusion{Ours: ours[0]}, nil
}

func (s *Store) concludeMany(ctx context.Context, endings []delivery.Ending) ([]delivery.Conclusion, error) {
	out := make([]delivery.Conclusion, len(endings))
	patches, hooked := finished(endings), map[string]*delivery.Recorded{}
	err := s.inUnit(ctx, func(c *unitOfWork) error {
		ours, err := patchAttempts(ctx, c.tx, finishAttempts, patches)
		if err != nil {
			return err
		}
		var ids []string
		for i, e := range endings {
			if out[i].Ours = ours[i]; ours[i] {
				ids = append(ids, e.EmailID)
			}
		}
		if err := c.lockBy(lockFree.Query(c.tx, pgdialect.Array(ids))); err != nil {
			return err
		}
		for i, e := range endings {
			m, err := c.find(e.EmailID)
			if err != nil || !ours[i] || !m.AttemptOpen || m.Attempts != e.Attempt {
				continue
			}
			c.projectAttempt(m, attemptRow{EmailID: e.EmailID, Attempt: e.Attempt, Relay: e.Relay, Outcomes: patches[i].Outcomes, Transcript: patches[i].Transcript})
			c.deriveStatus(m)
			out[i].Recorded = &delivery.Recorded{State: c.state(m)}
			if m.mayHaveDeliveries() {
				hooked[m.ID] = out[i].Recorded
			}
		}
		return c.flush()
	})
	if err != nil || len(hooked) == 0 {
		return out, err
	}
	if s.countDeliveries(ctx, hooked) != nil { // Record counts again
		for i := range out {
			out[i].Recorded = nil
		}
	}
	return out, nil
}

// countDeliveries counts the deliveries that wait, of e-mails by id.
func (s *Store) countDeliveries(ctx context.Context, recorded map[string]*delivery.Recorded) error {
	counts, err := s.webhooks.PendingForEmails(ctx, slices.Collect(maps.Keys(recorded)))
	for id, n := range counts {
		recorded[id].Webhooks = n
	}
	return err
}
