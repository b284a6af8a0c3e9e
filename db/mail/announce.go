package mail

import (
	"context"

	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/db/internal/pg"
	"github.com/postrider/postrider/internal/delivery"
)

// startsChannel is the channel of Postgres's notifications on which starts are announced.
const startsChannel = "postrider_starts"

// AnnounceStarts tells the processes that listen what waits to be started. It writes nothing: an
// announcement that is lost costs the time until the next sweep.
func (s *Store) AnnounceStarts(ctx context.Context, kind delivery.StartKind) error {
	_, err := s.db.ExecContext(ctx, "SELECT pg_notify(?, ?)", startsChannel, announcement(kind))
	return pg.Translate(err)
}

// HearStarts calls heard for each announcement, on a connection of its own, until ctx ends or the
// connection is lost. It begins with a call for each kind, for what was announced before.
func (s *Store) HearStarts(ctx context.Context, heard func(delivery.StartKind)) error {
	l := pgdriver.NewListener(s.db.DB)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // ends Receive
	defer func() {
		if stop() {
			_ = l.Close()
		}
	}()
	if err := l.Listen(ctx, startsChannel); err != nil {
		return pg.Translate(err)
	}
	for _, kind := range delivery.StartKinds() {
		heard(kind)
	}
	for {
		_, payload, err := l.Receive(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return pg.Translate(err)
		}
		for _, kind := range delivery.StartKinds() {
			if payload == announcement(kind) { // a newer version may announce other kinds
				heard(kind)
			}
		}
	}
}

// announcement is a kind as the payload of a notification.
func announcement(kind delivery.StartKind) string {
	what := "emails"
	if kind.Batches {
		what = "batches"
	}
	return what + " " + string(kind.Stream)
}
