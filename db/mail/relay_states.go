package mail

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// relayStateRow is a relay that fails, or has failed.
type relayStateRow struct {
	bun.BaseModel `bun:"table:relay_states,alias:rs"`

	Name     string    `bun:"name,pk"`
	Address  string    `bun:"address,pk"`
	Failures int       `bun:"failures"`
	Since    time.Time `bun:"since"`
	// NextAt is when it may be probed.
	NextAt time.Time `bun:"next_at"`
	// ChangedAt is when it last began to fail, or recovered.
	ChangedAt time.Time `bun:"changed_at"`
	Shared    bool      `bun:"shared"`

	ReplyCode int     `bun:"reply_code"`
	Enhanced  string  `bun:"enhanced"`
	ReplyText string  `bun:"reply_text"`
	Cause     string  `bun:"cause"`
	MailFrom  *string `bun:"mail_from"`
	MailBytes int64   `bun:"mail_bytes"`
	// TxNow is the database's time.
	TxNow time.Time `bun:"tx_now,scanonly"`
}

// relayStateColumns are those that are read.
const relayStateColumns = "rs.name, rs.address, rs.failures, rs.since, rs.changed_at, rs.next_at, rs.shared, rs.reply_code, rs.enhanced, rs.reply_text, rs.cause, rs.mail_from, rs.mail_bytes, now() AS tx_now"

func (r *relayStateRow) state() delivery.RelayState {
	st := delivery.RelayState{
		Name: r.Name, Address: r.Address, Failures: r.Failures, Since: pg.UTC(r.Since), ChangedAt: pg.UTC(r.ChangedAt), SinceChange: r.TxNow.Sub(r.ChangedAt), NextProbeAt: pg.UTC(r.NextAt), RetryAfter: max(r.NextAt.Sub(r.TxNow), 0),
		Reply: email.Reply{Code: r.ReplyCode, Enhanced: r.Enhanced, Text: r.ReplyText}, Cause: r.Cause, Shared: r.Shared,
	}
	if r.MailFrom != nil {
		st.Mail = &delivery.MailCommand{From: *r.MailFrom, Bytes: r.MailBytes}
	}
	return st
}

// RelayFailed notes that a relay fails, and answers with what stands there then. The
// backoff grows where the probe of the one who asked for it has failed, or where the
// backoff was over: those who were talking to the relay when it went away count as one.
func (s *Store) RelayFailed(ctx context.Context, st delivery.RelayState, owner string) (delivery.RelayState, error) {
	var row relayStateRow
	reply := recipientRow{}
	reply.setReply(st.Reply)
	var from *string
	var bytes int64
	if st.Mail != nil {
		from, bytes = &st.Mail.From, st.Mail.Bytes
	}
	err := s.db.InTx(ctx, func(tx bun.Tx) error {
		// The row exists and is locked afterwards, whether it is new or another process was first.
		var grows bool
		err := tx.NewRaw(`INSERT INTO relay_states AS rs (name, address) VALUES (?, ?)
			ON CONFLICT (name, address) DO UPDATE SET name = rs.name
			RETURNING rs.failures, coalesce(rs.probe_owner = ?, false) OR rs.next_at <= now() AS grows`, st.Name, st.Address, owner).Scan(ctx, &row.Failures, &grows)
		if err != nil {
			return err
		}
		failures := row.Failures
		if failures == 0 || grows {
			failures++
		}
		return tx.NewRaw(`UPDATE relay_states AS rs SET failures = ?0, since = CASE WHEN rs.failures = 0 THEN now() ELSE rs.since END,
				next_at = CASE WHEN rs.failures = ?0 THEN rs.next_at ELSE now() + ?1 * interval '1 second' END,
				changed_at = CASE WHEN rs.failures = 0 THEN now() ELSE rs.changed_at END,
				probe_owner = CASE WHEN rs.failures = ?0 THEN rs.probe_owner END, probe_until = CASE WHEN rs.failures = ?0 THEN rs.probe_until END,
				shared = ?2, mail_from = ?3, mail_bytes = ?4, reply_code = ?5, enhanced = ?6, reply_text = ?7, cause = ?8
			WHERE rs.name = ?9 AND rs.address = ?10 RETURNING `+relayStateColumns,
			failures, delivery.RelayBackoff(failures).Seconds(), st.Shared, from, bytes, reply.SMTPCode, reply.Enhanced, reply.SMTPText, pg.CleanText(st.Cause), st.Name, st.Address).Scan(ctx, &row)
	})
	return row.state(), pg.Translate(err)
}

// RelayRecovered notes that a relay works.
func (s *Store) RelayRecovered(ctx context.Context, name, address string) error {
	_, err := s.db.NewRaw(`UPDATE relay_states SET failures = 0, changed_at = now(), probe_owner = NULL, probe_until = NULL
		WHERE name = ? AND address = ? AND failures > 0`, name, address).Exec(ctx)
	return pg.Translate(err)
}

// ClaimProbe gives one process at a time the right to probe a relay whose backoff is over.
// Where it is not granted the state says why.
func (s *Store) ClaimProbe(ctx context.Context, name, address, owner string, lease time.Duration) (bool, delivery.RelayState, error) {
	var row relayStateRow
	err := s.db.NewRaw(`UPDATE relay_states AS rs SET probe_owner = ?0, probe_until = now() + ?1 * interval '1 second'
		WHERE rs.name = ?2 AND rs.address = ?3 AND rs.failures > 0 AND rs.next_at <= now() AND (rs.probe_until IS NULL OR rs.probe_until <= now() OR rs.probe_owner = ?0)
		RETURNING `+relayStateColumns, owner, lease.Seconds(), name, address).Scan(ctx, &row)
	if err == nil {
		return true, row.state(), nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return false, delivery.RelayState{}, pg.Translate(err)
	}
	err = s.db.NewRaw("SELECT "+relayStateColumns+" FROM relay_states AS rs WHERE rs.name = ? AND rs.address = ?", name, address).Scan(ctx, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return false, delivery.RelayState{Name: name, Address: address}, nil
	}
	return false, row.state(), pg.Translate(err)
}

// ReleaseProbe gives the right to probe back.
func (s *Store) ReleaseProbe(ctx context.Context, name, address, owner string) error {
	_, err := s.db.NewRaw("UPDATE relay_states SET probe_owner = NULL, probe_until = NULL WHERE name = ? AND address = ? AND probe_owner = ?", name, address, owner).Exec(ctx)
	return pg.Translate(err)
}

// ForgetRelay removes the state of a relay's address that no process has probed for so long after
// its backoff: no process has it in its settings any more.
func (s *Store) ForgetRelay(ctx context.Context, name, address string, after time.Duration) error {
	_, err := s.db.NewRaw("DELETE FROM relay_states WHERE name = ? AND address = ? AND next_at < now() - ? * interval '1 second'", name, address, after.Seconds()).Exec(ctx)
	return pg.Translate(err)
}

// RelayStates lists the relays that fail, and those that have failed and work again.
func (s *Store) RelayStates(ctx context.Context) ([]delivery.RelayState, error) {
	var rows []*relayStateRow
	err := s.db.NewRaw("SELECT "+relayStateColumns+" FROM relay_states AS rs ORDER BY rs.name, rs.address").Scan(ctx, &rows)
	if err != nil {
		return nil, pg.Translate(err)
	}
	out := make([]delivery.RelayState, len(rows))
	for i, r := range rows {
		out[i] = r.state()
	}
	return out, nil
}
