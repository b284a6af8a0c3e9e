package signing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dkim"
)

// store is a Keys that counts how often it is asked.
type store struct {
	keys  map[string]dkim.Key
	err   error
	reads int
}

func (s *store) PrivateKeys(_ context.Context, ids []string) (map[string]dkim.Key, error) {
	s.reads++
	out := map[string]dkim.Key{}
	for _, id := range ids {
		if k, ok := s.keys[id]; ok {
			out[id] = k
		}
	}
	return out, s.err
}

func setup(t *testing.T) (*Signer, *store, *bytes.Buffer) {
	t.Helper()
	keys := &store{keys: map[string]dkim.Key{}}
	for _, id := range []string{"one", "two"} {
		private, err := dkim.GenerateKey(dkim.Ed25519)
		require.NoError(t, err)
		keys.keys[id] = dkim.Key{Domain: "acme.test", Selector: id, Private: private}
	}
	var log bytes.Buffer
	return New(keys, slog.New(slog.NewTextHandler(&log, nil))), keys, &log
}

var (
	message = []byte("From: shop@acme.test\r\nSubject: Hello\r\n\r\nHi\r\n")
	at      = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
)

func (s *Signer) selectors(t *testing.T, ids ...string) (out []string) {
	t.Helper()
	signed, err := s.Sign(t.Context(), bytes.Clone(message), ids, at)
	require.NoError(t, err)
	fields, ok := strings.CutSuffix(string(signed), string(message))
	require.True(t, ok, "the message is as it was")
	for _, f := range strings.SplitAfter(fields, "\r\n") {
		if _, s, ok := strings.Cut(f, "s="); ok && strings.HasPrefix(f, "DKIM-Signature:") {
			selector, _, _ := strings.Cut(s, ";")
			out = append(out, selector)
		}
	}
	return out
}

func TestKeysAreReadOnceForSomeTime(t *testing.T) {
	t.Parallel()
	s, keys, _ := setup(t)
	now := at
	s.now = func() time.Time { return now }
	require.Equal(t, []string{"one"}, s.selectors(t, "one"))
	require.Equal(t, []string{"two", "one"}, s.selectors(t, "two", "one"), "in their order")
	require.Equal(t, 2, keys.reads)
	now = now.Add(keepFor - time.Second)
	require.Equal(t, []string{"one", "two"}, s.selectors(t, "one", "two"))
	require.Equal(t, 2, keys.reads)
	delete(keys.keys, "one")
	now = now.Add(time.Second)
	require.Equal(t, []string{"two"}, s.selectors(t, "one", "two"), "a key that was destroyed is forgotten")
}

func TestAKeyThatIsGoneSignsNothing(t *testing.T) {
	t.Parallel()
	s, _, log := setup(t)
	require.Equal(t, []string{"two"}, s.selectors(t, "gone", "two"))
	require.Contains(t, log.String(), "msg=dkim.key_gone key_id=gone")
	require.Empty(t, s.selectors(t, "gone"))
	signed, err := s.Sign(t.Context(), message, []string{"gone"}, at)
	require.NoError(t, err)
	require.Equal(t, message, signed)
}

func TestErrorsOfKeysAndOfMessages(t *testing.T) {
	t.Parallel()
	s, keys, _ := setup(t)
	_, err := s.Sign(t.Context(), []byte("Subject: Hello\r\n\r\nHi\r\n"), []string{"one"}, at)
	require.ErrorIs(t, err, dkim.ErrMessage)
	keys.err = errors.New("no connection")
	_, err = s.Sign(t.Context(), message, []string{"two"}, at)
	require.ErrorIs(t, err, keys.err)
	require.NotErrorIs(t, err, dkim.ErrMessage)
}

func TestTheKeysInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	s, keys, _ := setup(t)
	many := map[string]dkim.Key{}
	for i := range keepMost {
		many[strings.Repeat("x", i%7)+time.Duration(i).String()] = keys.keys["one"]
	}
	s.keep(many, time.Now().Add(keepFor))
	s.selectors(t, "two")
	require.LessOrEqual(t, len(s.kept), keepMost)
	require.Contains(t, s.kept, "two")
}

// TestSignaturesAreWrittenIntoTheMessagesArray: a large message is not copied.
func TestSignaturesAreWrittenIntoTheMessagesArray(t *testing.T) {
	t.Parallel()
	s, _, _ := setup(t)
	roomy := append(make([]byte, 0, 16<<10), message...)
	signed, err := s.Sign(t.Context(), roomy, []string{"one"}, at)
	require.NoError(t, err)
	require.Same(t, &roomy[:1][0], &signed[0])
}
