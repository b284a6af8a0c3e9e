package mail

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// refusedPath is what an e-mail says while a relay refuses its return path and takes other mail. Its run, or its
// batch's, notes that when it begins to wait and after each probe, at most once per backoff.
type refusedPath struct {
	Relay string    `json:"relay"`
	Since time.Time `json:"since"`
	// At is when it was noted, NextAt when the run tries again.
	At       time.Time `json:"at"`
	NextAt   time.Time `json:"next_at"`
	Code     int       `json:"code"`
	Enhanced string    `json:"enhanced"`
	Text     string    `json:"text"`
}

func (p *refusedPath) reply() email.Reply {
	return email.Reply{Code: p.Code, Enhanced: p.Enhanced, Text: p.Text}
}

// pathRefused is what an obstacle adds to what was noted before; nil if the obstacle is another one.
func pathRefused(before *refusedPath, o delivery.Obstacle, now time.Time) *refusedPath {
	if o.RefusedPath == nil {
		return nil
	}
	reply := o.RefusedPath.Reply
	p := &refusedPath{
		Relay: o.Relay, Since: now, At: now, NextAt: now.Add(o.RefusedPath.RetryAfter),
		Code: reply.Code, Enhanced: pg.CleanText(reply.Enhanced), Text: pg.CleanText(reply.Text),
	}
	if before != nil && before.Relay == p.Relay {
		p.Since = before.Since
		// A shorter wait than the first is for the answer to a probe that is due: it is not noted.
		same := before.NextAt.Sub(p.NextAt).Abs() < time.Second || o.RefusedPath.RetryAfter < delivery.RelayBackoffFirst
		if same && before.reply() == p.reply() {
			return before
		}
	}
	return p
}

// noteObstacle notes what keeps a single e-mail from being tried. It reports whether that is news.
func (c *unitOfWork) noteObstacle(m *lockedEmail, o delivery.Obstacle) (news bool) {
	before := m.RefusedPath
	news = c.noteRelay(m, o)
	if m.RelayDown && m.RelayDownBy == o.Relay {
		m.RefusedPath = pathRefused(before, o, c.now)
	}
	return news || m.RefusedPath != before
}

// noteBatchPath notes the same of the e-mails of a batch that have one sender's domain, in one row for all.
func (s *Store) noteBatchPath(ctx context.Context, id, domain string, o delivery.Obstacle) error {
	return pg.Translate(s.db.InTx(ctx, func(tx bun.Tx) error {
		var row struct {
			Now  time.Time
			Path *refusedPath `bun:"path,type:jsonb"`
		}
		err := tx.NewRaw("SELECT now() AS now, b.refused_paths -> ? AS path FROM batches AS b WHERE b.id = ? FOR NO KEY UPDATE", domain, id).Scan(ctx, &row)
		if err != nil {
			return err
		}
		p := pathRefused(row.Path, o, pg.UTC(row.Now))
		switch {
		case p == row.Path:
		case p == nil:
			_, err = tx.NewRaw("UPDATE batches SET refused_paths = nullif(refused_paths - ?::text, '{}') WHERE id = ?", domain, id).Exec(ctx)
		default:
			var note []byte
			if note, err = json.Marshal(map[string]*refusedPath{domain: p}); err != nil {
				break
			}
			_, err = tx.NewRaw("UPDATE batches SET refused_paths = coalesce(refused_paths, '{}') || ?::jsonb WHERE id = ?", string(note), id).Exec(ctx)
		}
		if err != nil {
			return fmt.Errorf("note the refused return path of batch %s: %w", id, err)
		}
		return nil
	}))
}

// refusedPaths are what is noted of the refused return paths of e-mails that wait for a relay, by e-mail.
func (s *Store) refusedPaths(ctx context.Context, rows []*emailRow) (map[string]*refusedPath, error) {
	out := map[string]*refusedPath{}
	var ids []string
	for _, r := range rows {
		switch {
		case r.Detail != email.DetailRelayDown:
		case r.RefusedPath != nil:
			out[r.ID] = r.RefusedPath
		case r.batched():
			ids = append(ids, r.BatchID)
		}
	}
	if len(ids) == 0 {
		return out, nil
	}
	var found []struct {
		ID    string
		Paths map[string]*refusedPath `bun:"paths,type:jsonb"`
	}
	err := s.db.NewRaw("SELECT b.id, b.refused_paths AS paths FROM batches AS b WHERE b.id IN (?) AND b.refused_paths IS NOT NULL", bun.List(ids)).Scan(ctx, &found)
	if err != nil {
		return nil, pg.Translate(err)
	}
	for _, b := range found {
		for _, r := range rows {
			if p := b.Paths[email.DomainOf(r.FromEmail)]; p != nil && r.BatchID == b.ID && r.batched() && r.RelayDownBy == p.Relay && out[r.ID] == nil {
				out[r.ID] = p
			}
		}
	}
	return out, nil
}

// isNewerThan reports whether this is later news than the relay's fault that was seen last.
func (p *refusedPath) isNewerThan(fault *email.RelayFault, seenAt time.Time) bool {
	return p != nil && (fault == nil || p.At.After(seenAt))
}

// fault is what the e-mail shows. The words of its own attempt come first: what other e-mails met is without addresses.
// If its next try is due, it waits for the answer to a probe first.
func (p *refusedPath) fault(own *refusal, now time.Time) *email.RelayFault {
	next := pg.UTC(p.NextAt)
	if !next.After(now) {
		next = notBefore(now, next.Add(delivery.PathProbe))
	}
	f := &email.RelayFault{Relay: p.Relay, Since: pg.UTC(p.Since), Reply: p.reply(), NextAttemptAt: next}
	if own != nil && (own.openedAt.After(p.At) || own.reply.Code == f.Reply.Code && own.reply.Enhanced == f.Reply.Enhanced) {
		f.Reply = own.reply
	}
	return f
}
