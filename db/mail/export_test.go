package mail

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// Which calls share a transaction depends on when they come; tests choose.

func (s *Store) OpenMany(ctx context.Context, reqs []delivery.OpenRequest) ([]delivery.Opening, error) {
	return s.openMany(ctx, reqs)
}

func (s *Store) RecordMany(ctx context.Context, recs []delivery.RecordStatusInput) ([]*delivery.Recorded, error) {
	return s.recordMany(ctx, recs)
}

func (s *Store) ConcludeMany(ctx context.Context, endings []delivery.Ending) ([]delivery.Conclusion, error) {
	return s.concludeMany(ctx, endings)
}

func (s *Store) RecordChunks(ctx context.Context, chunks [][]delivery.Ending) ([]delivery.BatchRecorded, error) {
	recs, err := s.recordChunks(ctx, s.update, chunks)
	out := make([]delivery.BatchRecorded, len(recs))
	for i, r := range recs {
		out[i] = r.BatchRecorded
	}
	return out, err
}

// MarksWait waits until so many marks are waiting behind those that are being written.
func (s *Store) MarksWait(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { waiting, _ := s.marks.Count(); return waiting == n }, time.Minute, time.Millisecond)
}

// AcceptMany accepts messages of customers.
func (s *Store) AcceptMany(ctx context.Context, owner string, customers []string, ms []email.Message) ([]*email.Email, error) {
	as := make([]acceptance, len(ms))
	for i, m := range ms {
		as[i] = acceptance{customerID: customers[i], message: m, owner: owner}
	}
	return s.acceptMany(ctx, as)
}

// OpenEach opens attempts, each in a transaction of its own.
func (s *Store) OpenEach(ctx context.Context, reqs []delivery.OpenRequest) ([]delivery.Opening, error) {
	out := make([]delivery.Opening, len(reqs))
	for i, req := range reqs {
		var err error
		if out[i], err = s.Open(ctx, req); err != nil {
			return nil, err
		}
	}
	return out, nil
}
