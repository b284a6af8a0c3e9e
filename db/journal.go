package db

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/postrider/postrider/email"
)

// MarkSent notes that the final dot is about to be written. ErrSuperseded
// means that it must not be.
func (s *Store) MarkSent(ctx context.Context, marks []email.Mark) error {
	for _, m := range marks {
		err := s.ownersUpdate(ctx, `UPDATE delivery_attempts SET phase = 'data_sent', outcomes = ?::jsonb, relay = ?::jsonb, message_sha256 = ?, message_bytes = ?,
			data_sent_at = now(), lease_until = now() + ? * interval '1 second'
			WHERE email_id = ? AND attempt = ? AND part = 1 AND owner = ? AND phase = 'opened'`,
			cleanOutcomes(m.IfSilent), m.Relay, m.MessageSHA256, m.MessageBytes, email.Lease.Seconds(), m.EmailID, m.Attempt, m.Owner)
		if err != nil {
			return fmt.Errorf("mark attempt %d: %w", m.Attempt, err)
		}
	}
	return nil
}

// Finish writes an attempt's outcomes into the journal. It touches no other
// row, so that it waits for nobody. email.ErrSuperseded means that somebody else has
// ended the attempt.
func (s *Store) Finish(ctx context.Context, endings []email.Ending) error {
	for _, e := range endings {
		err := s.ownersUpdate(ctx, `UPDATE delivery_attempts SET phase = 'done', outcomes = ?::jsonb, relay = ?::jsonb, transcript = ?::jsonb, done_at = now()
			WHERE email_id = ? AND attempt = ? AND part = 1 AND owner = ? AND phase <> 'done'`,
			cleanOutcomes(e.Outcomes), e.Relay, cleanTranscript(e.Transcript), e.EmailID, e.Attempt, e.Owner)
		if err != nil {
			return fmt.Errorf("end attempt %d: %w", e.Attempt, err)
		}
	}
	return nil
}

// Renew prolongs the lease of an attempt; ErrSuperseded says that it is lost.
func (s *Store) Renew(ctx context.Context, emailID string, attempt int, owner string) error {
	return s.ownersUpdate(ctx, `UPDATE delivery_attempts SET lease_until = now() + ? * interval '1 second'
		WHERE email_id = ? AND attempt = ? AND part = 1 AND owner = ? AND phase <> 'done'`,
		email.Lease.Seconds(), emailID, attempt, owner)
}

// ownersUpdate runs an update that only the owner of an attempt gets through.
func (s *Store) ownersUpdate(ctx context.Context, query string, args ...any) error {
	for i, a := range args {
		switch v := a.(type) {
		case []email.Outcome, []email.Step, email.Relay:
			data, err := json.Marshal(v)
			if err != nil {
				return fmt.Errorf("encode journal: %w", err)
			}
			args[i] = string(data)
		}
	}
	res, err := s.db.NewRaw(query, args...).Exec(ctx)
	if err != nil {
		return translate(err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n != 1 {
		return email.ErrSuperseded
	}
	return nil
}

// Transcript returns the steps of an e-mail's attempts, oldest attempt first.
func (s *Store) Transcript(ctx context.Context, emailID string) ([][]email.Step, error) {
	var rows []attemptRow
	if err := s.db.NewSelect().Model(&rows).Column("attempt", "transcript").Where("a.email_id = ?", emailID).Order("a.attempt", "a.part").Scan(ctx); err != nil {
		return nil, translate(err)
	}
	out := make([][]email.Step, len(rows))
	for i, r := range rows {
		out[i] = r.Transcript
	}
	return out, nil
}

func cleanOutcomes(os []email.Outcome) []email.Outcome {
	out := make([]email.Outcome, len(os))
	for i, o := range os {
		o.Text, o.Enhanced = cleanText(o.Text), cleanText(o.Enhanced)
		out[i] = o
	}
	return out
}

func cleanTranscript(steps []email.Step) []email.Step {
	out := make([]email.Step, len(steps))
	for i, s := range steps {
		s.Command, s.Text, s.Enhanced, s.Error = cleanText(s.Command), cleanText(s.Text), cleanText(s.Enhanced), cleanText(s.Error)
		out[i] = s
	}
	return out
}
