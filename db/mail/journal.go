package mail

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// openedAttempt is the part of an attempt's row that it begins with.
type openedAttempt struct {
	EmailID      string             `json:"email_id" sql:"uuid"`
	Attempt      int                `json:"attempt"`
	Phase        email.JournalPhase `json:"phase"`
	Owner        string             `json:"owner" sql:"uuid"`
	LeaseUntil   time.Time          `json:"lease_until"`
	RecipientIDs []string           `json:"recipient_ids" sql:"uuid[]"`
	Relay        email.Relay        `json:"relay"`
	OpenedAt     time.Time          `json:"opened_at"`
}

// attemptPatch is what changes of one attempt, and on whose behalf.
type attemptPatch struct {
	EmailID    string             `json:"email_id" sql:"uuid"`
	Attempt    int                `json:"attempt"`
	Owner      string             `json:"owner" sql:"uuid"`
	Relay      email.Relay        `json:"relay"`
	Outcomes   []delivery.Outcome `json:"outcomes"`
	Transcript []email.Step       `json:"transcript,omitempty"`
	SHA256     string             `json:"message_sha256,omitempty"`
	Bytes      int64              `json:"message_bytes,omitempty"`
}

var (
	markAttempts = pg.PrepareRows("mark_attempts(jsonb, bigint, uuid[], float8)", `UPDATE delivery_attempts AS a SET phase = 'data_sent', outcomes = v.outcomes, relay = v.relay,
		message_sha256 = v.message_sha256, message_bytes = v.message_bytes, data_sent_at = now(), lease_until = now() + $4 * interval '1 second'`+
		attemptsPatched+` AND a.owner = v.owner AND a.phase = 'opened' RETURNING a.email_id, a.attempt, a.owner`)
	// One that its run has ended with its owner's outcomes lacks the transcript.
	finishAttempts = pg.PrepareRows("finish_attempts(jsonb, bigint, uuid[])", `UPDATE delivery_attempts AS a SET phase = 'done', transcript = v.transcript, done_at = coalesce(a.done_at, now()),
		outcomes = CASE a.phase WHEN 'done' THEN a.outcomes ELSE v.outcomes END, relay = CASE a.phase WHEN 'done' THEN a.relay ELSE v.relay END`+
		attemptsPatched+` AND a.owner = v.owner AND (a.phase <> 'done' OR a.transcript IS NULL) RETURNING a.email_id, a.attempt, a.owner`)

	// attemptsPatched joins attemptPatches to the attempts that they are of.
	attemptsPatched = pg.Patched[attemptPatch]("a", "email_id") + " AND a.attempt = v.attempt AND a.part = 1"
)

// MarkSent notes that final dots are about to be written. The final dot of an attempt that is not
// ours must not be written: another worker has it. Nor may any after an error, or when ctx ends
// first: what the journal has is not known then.
func (s *Store) MarkSent(ctx context.Context, marks []delivery.Mark) (ours []bool, err error) {
	// Well within the leases that begin with it.
	ctx, cancel := context.WithTimeout(ctx, pg.CoalesceTimeout)
	defer cancel()
	if len(marks) != 1 {
		return s.markMany(ctx, marks)
	}
	mine, _, err := s.marks.Do(ctx, marks[0])
	return []bool{mine}, err
}

func (s *Store) markMany(ctx context.Context, marks []delivery.Mark) (ours []bool, err error) {
	patches := make([]attemptPatch, len(marks))
	for i, m := range marks {
		patches[i] = attemptPatch{EmailID: m.EmailID, Attempt: m.Attempt, Owner: m.Owner, Relay: m.Relay,
			Outcomes: cleanOutcomes(m.IfSilent), SHA256: m.MessageSHA256, Bytes: m.MessageBytes}
	}
	return patchAttempts(ctx, s.db, markAttempts, patches, delivery.Lease.Seconds())
}

// Finish writes attempts' outcomes into the journal. It touches no other row, so it waits for no
// e-mail's lock. An attempt that is not ours was ended by another worker.
func (s *Store) Finish(ctx context.Context, endings []delivery.Ending) (ours []bool, err error) {
	return patchAttempts(ctx, s.db, finishAttempts, finished(endings))
}

// finished are the patches of attempts that have ended.
func finished(endings []delivery.Ending) []attemptPatch {
	patches := make([]attemptPatch, len(endings))
	for i, e := range endings {
		patches[i] = attemptPatch{EmailID: e.EmailID, Attempt: e.Attempt, Owner: e.Owner, Relay: e.Relay,
			Outcomes: cleanOutcomes(e.Outcomes), Transcript: cleanTranscript(e.Transcript)}
	}
	return patches
}

// patchAttempts runs a prepared update that takes attempts further, each on behalf of its
// owner, and tells whose went through.
func patchAttempts(ctx context.Context, db bun.IDB, statement pg.RowsStatement, patches []attemptPatch, args ...any) ([]bool, error) {
	data, err := json.Marshal(patches)
	if err != nil {
		return nil, fmt.Errorf("encode journal: %w", err)
	}
	ids := make([]string, len(patches))
	for i, p := range patches {
		ids[i] = p.EmailID
	}
	type attemptKey struct {
		EmailID string
		Attempt int
		Owner   string
	}
	var done []attemptKey
	if err := statement.Query(db, len(patches), append([]any{string(data), len(patches), pgdialect.Array(ids)}, args...)...).Scan(ctx, &done); err != nil {
		return nil, pg.Translate(err)
	}
	ours := make([]bool, len(patches))
	for i, p := range patches {
		ours[i] = slices.Contains(done, attemptKey{p.EmailID, p.Attempt, p.Owner})
	}
	return ours, nil
}

// Renew prolongs the lease of an attempt. delivery.ErrSuperseded says that another worker has the
// attempt, or that it has ended.
func (s *Store) Renew(ctx context.Context, emailID string, attempt int, owner string) error {
	res, err := s.db.NewRaw(`UPDATE delivery_attempts SET lease_until = now() + ? * interval '1 second', recalled = false
		WHERE email_id = ? AND attempt = ? AND part = 1 AND owner = ? AND phase <> 'done'`,
		delivery.Lease.Seconds(), emailID, attempt, owner).Exec(ctx)
	if err != nil {
		return pg.Translate(err)
	}
	n, err := res.RowsAffected()
	if err == nil && n != 1 {
		err = delivery.ErrSuperseded
	}
	return err
}

// attemptsMax bounds the attempts of a page.
const attemptsMax = 100

// Attempts lists the attempts of a customer's e-mail behind the one of a number, oldest first: as
// many as fit on a page. next is the number to go on behind, 0 at the end. An e-mail that the
// customer does not have is a CodeNotFound.
func (s *Store) Attempts(ctx context.Context, customerID, emailID string, after int) (out []email.Attempt, next int, err error) {
	if err := s.mustOwn(ctx, customerID, emailID); err != nil {
		return nil, 0, err
	}
	type head struct {
		Attempt int
		Bytes   int64
	}
	var heads []head
	err = s.db.NewRaw(`SELECT a.attempt, sum(coalesce(octet_length(a.transcript::text), 0))::bigint AS bytes FROM delivery_attempts AS a
		WHERE a.email_id = ? AND a.attempt > ? GROUP BY 1 ORDER BY 1 LIMIT ?`, emailID, after, attemptsMax+1).Scan(ctx, &heads)
	if err != nil {
		return nil, 0, pg.Translate(err)
	}
	n := pg.Within(heads, attemptsMax, func(h head) int64 { return h.Bytes })
	if n == 0 {
		return nil, 0, nil
	}
	last := heads[n-1].Attempt
	if n < len(heads) {
		next = last
	}
	var rows []attemptRow
	err = s.db.NewSelect().Model(&rows).Where("a.email_id = ?", emailID).Where("a.attempt > ?", after).Where("a.attempt <= ?", last).Order("a.attempt", "a.part").Scan(ctx)
	if err != nil {
		return nil, 0, pg.Translate(err)
	}
	out = make([]email.Attempt, len(rows))
	for i, r := range rows {
		out[i] = email.Attempt{
			Number: r.Attempt, Phase: r.Phase, Relay: r.Relay, RecipientIDs: r.RecipientIDs,
			OpenedAt: pg.UTC(r.OpenedAt), DataSentAt: pg.UTC(r.DataSentAt), DoneAt: pg.UTC(r.DoneAt),
			MessageSHA256: r.MessageSHA256, MessageBytes: r.MessageBytes, Transcript: r.Transcript,
		}
	}
	return out, next, nil
}

func cleanOutcomes(os []delivery.Outcome) []delivery.Outcome {
	out := make([]delivery.Outcome, len(os))
	for i, o := range os {
		o.Text, o.Enhanced = pg.CleanText(o.Text), pg.CleanText(o.Enhanced)
		out[i] = o
	}
	return out
}

func cleanTranscript(steps []email.Step) []email.Step {
	out := make([]email.Step, len(steps))
	for i, s := range steps {
		s.Command, s.Text, s.Enhanced, s.Error = pg.CleanText(s.Command), pg.CleanText(s.Text), pg.CleanText(s.Enhanced), pg.CleanText(s.Error)
		out[i] = s
	}
	return out
}
