package mail_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
)

// BenchmarkLife takes e-mails from acceptance to delivered: one at a time, where each step has a
// transaction of its own, and many at the same time, where they share transactions.
func BenchmarkLife(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		s := &bench{dbsetup.New(b)}
		for b.Loop() {
			s.live(b)
		}
	})
	b.Run("together", func(b *testing.B) {
		s := &bench{dbsetup.With(b, dbtest.URL(b), func(o *db.Options) { o.MaxConns = 20 })}
		b.SetParallelism(16)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				s.live(b)
			}
		})
	})
}

// BenchmarkAccept accepts e-mails, one at a time and many at the same time.
func BenchmarkAccept(b *testing.B) {
	accept := func(s *bench, key string) {
		_, _, err := s.Mail.Accept(s.Ctx, s.Customer, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{Key: key, Fingerprint: key})
		require.NoError(b, err)
	}
	b.Run("alone", func(b *testing.B) {
		s := &bench{dbsetup.New(b)}
		for b.Loop() {
			accept(s, "")
		}
	})
	b.Run("with a key", func(b *testing.B) {
		s := &bench{dbsetup.New(b)}
		for b.Loop() {
			accept(s, uuid.NewString())
		}
	})
	b.Run("together", func(b *testing.B) {
		s := &bench{dbsetup.New(b)}
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				accept(s, "")
			}
		})
	})
}

// live takes an e-mail through its life.
func (s *bench) live(b *testing.B) {
	e, _, err := s.Mail.Accept(s.Ctx, s.Customer, dbsetup.Message("bob@x.test"), uuid.NewString(), email.Idempotency{})
	require.NoError(b, err)
	owner := uuid.NewString()
	o, err := s.Mail.Open(s.Ctx, delivery.OpenRequest{EmailID: e.ID, Attempt: 1, Owner: owner, Relay: dbsetup.Relay})
	require.NoError(b, err)
	require.Equal(b, delivery.VerdictOpened, o.Verdict)
	out := dbsetup.Delivered(o.Recipients[0])
	out.RecipientID = o.Recipients[0].ID
	ours, err := s.Mail.MarkSent(s.Ctx, []delivery.Mark{{EmailID: e.ID, Attempt: 1, Owner: owner, Relay: dbsetup.Relay, IfSilent: dbsetup.Ambiguous(o), MessageSHA256: "abc", MessageBytes: 3}})
	require.NoError(b, err)
	require.True(b, ours[0])
	_, err = s.Mail.Finish(s.Ctx, []delivery.Ending{{EmailID: e.ID, Attempt: 1, Owner: owner, Relay: dbsetup.Relay, Outcomes: []delivery.Outcome{out}}})
	require.NoError(b, err)
	r, err := s.Mail.Record(s.Ctx, delivery.RecordStatusInput{EmailID: e.ID, Attempt: 1})
	require.NoError(b, err)
	require.Equal(b, email.StatusDelivered, r.State.Status)
}
