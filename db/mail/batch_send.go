package mail

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/files"
	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// PlanBatch returns the state of a batch to its run, and deletes the order to start that run. Of a
// batch that is held, it ends the attempts that their owners have abandoned, and the e-mails that
// have expired: they come to no other gate. A batch that does not exist is a CodeNotFound.
func (s *Store) PlanBatch(ctx context.Context, id string) (delivery.BatchPlan, error) {
	var plan delivery.BatchPlan
	if _, err := uuid.Parse(id); err != nil { // the id of a run that an outside program starts may be anything
		return plan, pg.NotFound("batch")
	}
	var row batchRow
	err := s.db.NewRaw(`UPDATE batches SET lease_owner = NULL, lease_until = NULL, seen_at = now() WHERE id = ?
		RETURNING customer_id, total, held, jsonb_array_length(refused) AS refused_count`, id).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return plan, pg.NotFound("batch")
	}
	if err != nil {
		return plan, pg.Translate(err)
	}
	plan.CustomerID, plan.Total, plan.Held = row.CustomerID, row.Total-row.RefusedCount, row.Held
	if plan.Held {
		if err := s.settleHeld(ctx, id); err != nil {
			return plan, err
		}
	}
	var ways []struct {
		Stream email.Stream
		Domain string
		Avoid  string
		Open   int
		Due    int
		Held   int
		NextAt time.Time `bun:"next_at,nullzero"`
		// ExpiresAt is the first deadline of those that have no attempt open.
		ExpiresAt time.Time `bun:"expires_at,nullzero"`
		// LeaseUntil is the first end of an open attempt's lease.
		LeaseUntil time.Time `bun:"lease_until,nullzero"`
	}
	// An open attempt is due when its lease has run out.
	err = s.db.NewRaw(`SELECT e.stream, lower(split_part(e.from_email, '@', -1)) AS domain, `+avoided+` AS avoid, count(*) AS open,
			count(*) FILTER (WHERE greatest(e.next_action_at, a.lease_until) <= now() OR `+awaitsSlot+`) AS due, count(*) FILTER (WHERE e.held OR e.paused) AS held,
			min(greatest(e.next_action_at, a.lease_until)) FILTER (WHERE greatest(e.next_action_at, a.lease_until) > now() AND `+awaitsSlot+` IS NOT TRUE) AS next_at,
			min(`+deadlineOf+`) FILTER (WHERE NOT e.attempt_open) AS expires_at, min(a.lease_until) AS lease_until
		FROM emails AS e LEFT JOIN delivery_attempts AS a ON e.attempt_open AND a.email_id = e.id AND a.attempt = e.attempts AND a.part = 1
		WHERE e.batch_id = ?0 AND e.workflow_id = ?1 AND e.status IN ('queued', 'sending') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
		s.batchMail(id)...).Scan(ctx, &ways)
	if err != nil {
		return plan, pg.Translate(err)
	}
	held := 0
	for _, w := range ways {
		plan.Open += w.Open
		held += w.Held
		plan.Stream = w.Stream
		if w.Due > 0 {
			plan.Due += w.Due
			plan.Routes = append(plan.Routes, delivery.Route{Stream: w.Stream, SenderDomain: w.Domain, Avoid: w.Avoid})
		}
		plan.NextAt = pg.UTC(earliest(plan.NextAt, w.NextAt))
		if plan.Held { // one that is past is of an e-mail that another transaction has locked
			plan.NextAt = pg.UTC(earliest(earliest(plan.NextAt, w.ExpiresAt), w.LeaseUntil))
		}
	}
	if plan.Held { // the gate takes none of them
		plan.Due, plan.Routes = 0, nil
	}
	// Where each waits for a hold of its own or a pause, the batch is held all the same. One
	// that expires meanwhile is due.
	plan.Held = plan.Held || plan.Open > 0 && held == plan.Open
	return plan, nil
}

// onRoute are the e-mails of a batch that are due and go one way: ?2 is the route's stream,
// ?3 its sender's domain, ?4 what it avoids.
const onRoute = "e.stream = ?2 AND lower(split_part(e.from_email, '@', -1)) = ?3 AND " + avoided + " = ?4"

// MailOf tells what MAIL will say of a route's e-mail, or of the next one of its batch. The
// size is a lower bound. emailID is empty where there is none.
func (s *Store) MailOf(ctx context.Context, route delivery.Route) (emailID string, m delivery.MailCommand, err error) {
	var row struct {
		emailRow
		Sender *senderIdentity `bun:"sender,type:jsonb"`
	}
	const find = "SELECT e.id, e.from_email, e.size_bytes, e.date_at, e.dated_at, e.token, e.bounce_host, " + findSender + " AS sender FROM emails AS e WHERE "
	if route.ForBatch == "" {
		err = s.db.NewRaw(find+"e.id = ?", route.For).Scan(ctx, &row)
	} else {
		err = s.db.NewRaw(find+`e.batch_id = ?0 AND e.workflow_id = ?1 AND `+dueInBatch+` AND `+onRoute+`
			ORDER BY e.next_action_at LIMIT 1`, route.ForBatch, email.BatchWorkflowIDPrefix+route.ForBatch, route.Stream, route.SenderDomain, route.Avoid).Scan(ctx, &row)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return "", m, nil
	}
	s.settle(&row.emailRow, row.Sender)
	return row.ID, delivery.MailCommand{From: row.returnPath(), Bytes: row.SizeBytes}, pg.Translate(err)
}

// avoided is the relay whose fault an e-mail has met last: delivery.Route's Avoid.
const avoided = "CASE WHEN e.relay_down THEN e.relay_down_by ELSE '' END"

// SeenBatch notes that a batch's run is at work.
func (s *Store) SeenBatch(ctx context.Context, id string) error {
	_, err := s.db.NewRaw("UPDATE batches SET seen_at = now() WHERE id = ?", id).Exec(ctx)
	return pg.Translate(err)
}

// OpenBatch is the gate for e-mails of a batch that are due and go one way. It finds up to
// req.Limit that no other transaction has locked, and opens an attempt at each as Open would. An
// attempt that its owner has abandoned is taken over. E-mails for which the gate is closed
// are left out: their rows say what they wait for. more says that there may be others.
func (s *Store) OpenBatch(ctx context.Context, req delivery.BatchOpenRequest) (out []delivery.BatchOpening, more bool, _ error) {
	due := freeEmails{
		where: `e.batch_id = ?0 AND e.workflow_id = ?1 AND ` + dueInBatch + `
			AND ` + onRoute + `
			AND NOT EXISTS (SELECT 1 FROM batches AS b WHERE b.id = ?0 AND b.held)
			AND (NOT e.attempt_open OR EXISTS (SELECT 1 FROM delivery_attempts AS a WHERE a.email_id = e.id AND a.attempt = e.attempts AND a.part = 1
				AND a.lease_until < now()))`,
		args:    []any{req.BatchID, email.BatchWorkflowIDPrefix + req.BatchID, req.Route.Stream, req.Route.SenderDomain, req.Route.Avoid},
		orderBy: "e.next_action_at", limit: req.Limit,
	}
	n, err := s.updateFound(ctx, due, func(c *unitOfWork) error {
		reqs := make([]delivery.OpenRequest, len(c.emails))
		for i, m := range c.emails {
			reqs[i] = delivery.OpenRequest{EmailID: m.ID, Attempt: m.Attempts + 1, Owner: req.Owner, Relay: req.Relay}
			if m.AttemptOpen {
				reqs[i].Attempt = m.Attempts
			}
		}
		if err := c.pace(reqs); err != nil {
			return err
		}
		for i, m := range c.emails {
			if !m.ThrottledUntil.IsZero() { // the relay's slot is there, also where the gate is closed
				m.ThrottledUntil, m.dirty = time.Time{}, true
			}
			o, err := c.openOrReopen(m, reqs[i])
			if err != nil {
				return err
			}
			if o.Verdict == delivery.VerdictOpened || o.Verdict == delivery.VerdictRecorded {
				out = append(out, delivery.BatchOpening{EmailID: m.ID, Attempt: reqs[i].Attempt, Bytes: m.SizeBytes, Opening: o})
			}
		}
		return nil
	})
	return out, n > 0 && n == req.Limit, err
}

// ObstructBatch notes on up to limit due e-mails of a batch why no attempt is made, and returns how
// many it changed. The batch's row notes what a relay said to their return path.
func (s *Store) ObstructBatch(ctx context.Context, id string, route delivery.Route, obstacle delivery.Obstacle, limit int) (int, error) {
	due := freeEmails{
		where: "e.batch_id = ? AND e.workflow_id = ? AND " + dueInBatch + ` AND NOT e.attempt_open
			AND e.stream = ? AND lower(split_part(e.from_email, '@', -1)) = ?
			AND ((e.relay_down, e.relay_down_by, e.no_relay) IS DISTINCT FROM (?, ?, ?) OR e.throttled_until IS NOT NULL)`,
		args:    []any{id, email.BatchWorkflowIDPrefix + id, route.Stream, route.SenderDomain, obstacle.RelayDown, obstacle.Relay, obstacle.NoRelay},
		orderBy: "e.next_action_at", limit: limit,
	}
	if err := s.noteBatchPath(ctx, id, route.SenderDomain, obstacle); err != nil {
		return 0, err
	}
	return s.updateFound(ctx, due, func(c *unitOfWork) error {
		for _, m := range c.emails {
			m.relayDown(obstacle)
			m.ThrottledUntil, m.dirty = time.Time{}, true
			c.checkGate(m) // what has run out of time ends
		}
		return nil
	})
}

// earliest is the first of two times; zero is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// deadlineOf is an e-mail's deadline: see unitOfWork.deadline. ?2 is the Schedule's limit in
// seconds.
const deadlineOf = "coalesce(e.expires_at, CASE WHEN NOT e.relay_down THEN e.date_at + ?2 * interval '1 second' END)"

// batchMail are the arguments of statements about a batch's e-mails: its id, the id of its run, and
// what deadlineOf needs.
func (s *Store) batchMail(id string) []any {
	first := time.Unix(0, 0)
	return []any{id, email.BatchWorkflowIDPrefix + id, s.opts.Schedule.Deadline(time.Time{}, first).Sub(first).Seconds()}
}

// expireAtOnce is how many e-mails of a batch end in one transaction because they have expired.
const expireAtOnce = 1000

// ExpireBatch ends the attempts at a batch's e-mails that their owners have abandoned, and those of its
// e-mails on one route that have expired. It says which e-mails wait there still. It leaves out e-mails
// that another transaction has locked. The route's Avoid does not matter.
func (s *Store) ExpireBatch(ctx context.Context, id string, route delivery.Route) (delivery.BatchWaiting, error) {
	const waiting = "e.batch_id = ?0 AND e.workflow_id = ?1 AND e.stream = ?2 AND lower(split_part(e.from_email, '@', -1)) = ?3 AND e.status IN ('queued', 'sending')"
	args := []any{id, email.BatchWorkflowIDPrefix + id, route.Stream, route.SenderDomain}
	if err := s.endAbandoned(ctx, id); err != nil {
		return delivery.BatchWaiting{}, err
	}
	if err := s.expire(ctx, freeEmails{where: waiting + " AND e.expires_at <= now()", args: args, orderBy: "e.expires_at"}); err != nil {
		return delivery.BatchWaiting{}, err
	}
	var left struct {
		Due        bool
		ExpiresAt  time.Time `bun:"expires_at,nullzero"`
		LeaseUntil time.Time `bun:"lease_until,nullzero"`
		TxNow      time.Time
	}
	err := s.db.NewRaw(`SELECT coalesce(bool_or(`+dueInBatch+`), false) AS due, min(e.expires_at) FILTER (WHERE NOT e.attempt_open) AS expires_at,
			min(a.lease_until) AS lease_until, now() AS tx_now
		FROM emails AS e LEFT JOIN delivery_attempts AS a ON e.attempt_open AND a.email_id = e.id AND a.attempt = e.attempts AND a.part = 1
		WHERE `+waiting, args...).Scan(ctx, &left)
	if err != nil {
		return delivery.BatchWaiting{}, pg.Translate(err)
	}
	out := delivery.BatchWaiting{Due: left.Due}
	if look := earliest(left.ExpiresAt, left.LeaseUntil); !look.IsZero() {
		out.LookIn = max(look.Sub(left.TxNow), time.Second) // another transaction may have it locked
		out.LookAt = left.TxNow.Add(out.LookIn).UTC()
	}
	return out, nil
}

// expireHeld ends the e-mails that have expired of a batch that is held, on all routes. It leaves
// out e-mails that another transaction has locked, and those with an open attempt.
func (s *Store) expireHeld(ctx context.Context, id string) error {
	return s.expire(ctx, freeEmails{
		where: "e.batch_id = ?0 AND e.workflow_id = ?1 AND e.status IN ('queued', 'sending') AND " + deadlineOf + " <= now()",
		args:  s.batchMail(id), orderBy: "e.id",
	})
}

// expire ends e-mails without an open attempt, expireAtOnce in a transaction, until it finds no
// more. All that it finds must have expired.
func (s *Store) expire(ctx context.Context, expired freeEmails) error {
	expired.where, expired.limit = "NOT e.attempt_open AND "+expired.where, expireAtOnce
	return s.updateAllFound(ctx, expired, func(c *unitOfWork) error {
		for _, m := range c.emails {
			c.checkGate(m)
		}
		return nil
	})
}

// RecordBatch ends attempts in the journal and projects their outcomes, as Finish and Record would
// one by one. Attempts that have another owner, or have been recorded, are passed over. An e-mail
// with a recipient that its server has deferred is handed over, in the same transaction, to a run
// of its own. That run begins when the e-mail is due.
func (s *Store) RecordBatch(ctx context.Context, endings []delivery.Ending) (delivery.BatchRecorded, error) {
	rec, err := s.RecordFree(ctx, endings)
	if err != nil || len(rec.Left) == 0 {
		return rec, err
	}
	rest, err := s.recordChunk(ctx, s.update, rec.Left)
	if err != nil {
		return rec, err
	}
	rec.HandedOver += rest.HandedOver
	for status, n := range rest.Statuses {
		rec.Statuses[status] += n
	}
	endpoints, err := s.hookedBy(ctx, rest, rec.Left)
	rec.Endpoints, rec.Left = append(rec.Endpoints, endpoints...), nil
	return rec, err
}

// RecordFree is RecordBatch for the e-mails that no other transaction has locked. The others are in
// Left, still to be recorded. Their outcomes are in the journal, which waits for no lock.
func (s *Store) RecordFree(ctx context.Context, endings []delivery.Ending) (delivery.BatchRecorded, error) {
	rec, alone, err := s.chunks.Do(ctx, endings)
	if err != nil && !alone {
		rec, err = s.recordChunk(ctx, s.updateFree, endings)
	}
	if err == nil {
		rec.Endpoints, err = s.hookedBy(ctx, rec, endings)
	}
	return rec.BatchRecorded, err
}

// hookedBy are the endpoints that have deliveries of a chunk's e-mails waiting.
func (s *Store) hookedBy(ctx context.Context, rec chunkRecord, endings []delivery.Ending) (endpoints []string, err error) {
	if !rec.hooked {
		return nil, nil
	}
	ids := make([]string, len(endings))
	for i, e := range endings {
		ids[i] = e.EmailID
	}
	return s.webhooks.EndpointsOf(ctx, ids)
}

// chunkRecord is what was recorded of a chunk's endings.
type chunkRecord struct {
	delivery.BatchRecorded
	// hooked: there may be deliveries worth a look at once.
	hooked bool
}

func (s *Store) recordChunk(ctx context.Context, lock updater, endings []delivery.Ending) (chunkRecord, error) {
	recs, err := s.recordChunks(ctx, lock, [][]delivery.Ending{endings})
	if err != nil {
		return chunkRecord{}, err
	}
	return recs[0], nil
}

// recordChunks records the endings of several chunks in one transaction.
func (s *Store) recordChunks(ctx context.Context, lock updater, chunks [][]delivery.Ending) ([]chunkRecord, error) {
	type ending struct {
		delivery.Ending
		of *chunkRecord
	}
	out := make([]chunkRecord, len(chunks))
	byID := map[string][]ending{}
	for i, endings := range chunks {
		out[i].Statuses = email.StatusCounts{}
		for _, e := range endings {
			byID[e.EmailID] = append(byID[e.EmailID], ending{e, &out[i]})
		}
	}
	if len(byID) == 0 {
		return out, nil
	}
	err := lock(ctx, slices.Collect(maps.Keys(byID)), func(c *unitOfWork) error {
		if err := c.readAttempts(); err != nil {
			return err
		}
		for _, m := range c.emails {
			for _, e := range byID[m.ID] {
				if !c.recordEnding(m, e.Ending) {
					continue
				}
				if c.handOver(m, c.journal[m.ID].Outcomes) {
					e.of.HandedOver++
				}
				if !allGivenBack(c.journal[m.ID].Outcomes) {
					e.of.Statuses[m.Status]++
				}
				e.of.hooked = e.of.hooked || m.mayHaveDeliveries()
			}
			delete(byID, m.ID)
		}
		return nil
	})
	if err != nil || len(byID) == 0 {
		return out, err
	}
	var left []delivery.Ending
	for _, endings := range byID {
		for _, e := range endings {
			e.of.Left = append(e.of.Left, e.Ending)
			left = append(left, e.Ending)
		}
	}
	_, err = s.Finish(ctx, left)
	return out, err
}

// recordEnding ends the attempt that is open at an e-mail, if it is the ending's to end, and
// says so.
func (c *unitOfWork) recordEnding(m *lockedEmail, e delivery.Ending) bool {
	row := c.journal[m.ID]
	if !m.AttemptOpen || m.Attempts != e.Attempt || row == nil {
		return false
	}
	if row.Phase != email.PhaseDone {
		if row.Owner != e.Owner {
			return false
		}
		row.Relay, row.Transcript, row.Outcomes = e.Relay, cleanTranscript(e.Transcript), cleanOutcomes(e.Outcomes)
		c.finish(*row, row.Outcomes, row.Owner)
	}
	c.projectAttempt(m, *row)
	c.deriveStatus(m)
	return true
}

// allGivenBack reports whether a relay's fault ended an attempt for everybody: it does not
// count as one.
func allGivenBack(outcomes []delivery.Outcome) bool {
	return !slices.ContainsFunc(outcomes, func(o delivery.Outcome) bool { return !o.RelayFault })
}

// handOver gives an e-mail that its batch has attempted to a run of its own, if a server has
// deferred one of its recipients. An e-mail that waits for a relay stays.
func (c *unitOfWork) handOver(m *lockedEmail, outcomes []delivery.Outcome) bool {
	if m.Status.Final() || !m.batched() {
		return false
	}
	counted := false
	for _, o := range outcomes {
		counted = counted || (o.Status == email.RecipientDeferred && !o.Uncounted)
	}
	if !counted {
		return false
	}
	m.WorkflowID = email.WorkflowIDPrefix + m.ID
	start := m.NextActionAt
	if start.IsZero() { // held: its run begins when it is resumed
		start = c.now
	}
	c.enqueueStart(m, delivery.NoOwner, start)
	return true
}

// Content reads a stored content.
func (s *Store) Content(ctx context.Context, blobID string, size int64) ([]byte, error) {
	data, err := files.ReadBlob(ctx, s.db, blobID, size)
	return data, pg.Translate(err)
}

// RenewMany prolongs the leases of attempts that one owner has open.
func (s *Store) RenewMany(ctx context.Context, emailIDs []string, owner string) error {
	_, err := s.db.NewRaw(`UPDATE delivery_attempts SET lease_until = now() + ? * interval '1 second', recalled = false
		WHERE email_id IN (?) AND part = 1 AND owner = ? AND phase <> 'done'`, delivery.Lease.Seconds(), bun.List(emailIDs), owner).Exec(ctx)
	return pg.Translate(err)
}
