package mail

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
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

// greetFirst and greetMost are the first and the longest pause between two greetings of a listener.
const (
	greetFirst = 50 * time.Millisecond
	greetMost  = 5 * time.Second
)

// HearStarts calls heard for each announcement, on a connection of its own, until ctx ends or the
// connection is lost. It begins with a call for each kind, for what was announced before it listened.
func (s *Store) HearStarts(ctx context.Context, heard func(delivery.StartKind)) error {
	l := pgdriver.NewListener(s.db.DB)
	ctx, end := context.WithCancelCause(ctx)
	closed := make(chan struct{})
	defer func() { end(nil); <-closed }()
	go func() {
		defer close(closed)
		<-ctx.Done()
		_ = l.Close() // ends Receive
	}()
	if err := l.Listen(ctx, startsChannel); err != nil { // it does not wait for the answer
		return pg.Translate(err)
	}
	greeting := uuid.NewString()
	greetCtx, listens := context.WithCancel(ctx)
	defer listens()
	go func() {
		if err := s.greet(greetCtx, greeting); err != nil {
			end(err)
		}
	}()
	for {
		_, payload, err := l.Receive(ctx)
		if ctx.Err() != nil {
			return pg.Translate(failure(ctx))
		}
		if err != nil {
			return pg.Translate(err)
		}
		if payload == greeting && greetCtx.Err() == nil {
			listens()
			for _, kind := range delivery.StartKinds() {
				heard(kind)
			}
		}
		for _, kind := range delivery.StartKinds() {
			if payload == announcement(kind) { // a newer version may announce other kinds
				heard(kind)
			}
		}
	}
}

// greet announces a listener to itself until ctx ends: once it hears that, it hears all that follows.
func (s *Store) greet(ctx context.Context, greeting string) error {
	for pause := greetFirst; ; pause = min(2*pause, greetMost) {
		if _, err := s.db.ExecContext(ctx, "SELECT pg_notify(?, ?)", startsChannel, greeting); ctx.Err() != nil {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// failure is why a context was ended with a cause; nil if it was ended without.
func failure(ctx context.Context) error {
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// announcement is a kind as the payload of a notification.
func announcement(kind delivery.StartKind) string {
	what := "emails"
	if kind.Batches {
		what = "batches"
	}
	return what + " " + string(kind.Stream)
}
