package endpoint_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/endpoint"
)

func newSecret(t *testing.T) endpoint.Secret {
	t.Helper()
	s, err := endpoint.NewSecret()
	require.NoError(t, err)
	return s
}

func TestSecretIsShownOnPurposeOnly(t *testing.T) {
	t.Parallel()
	s := newSecret(t)
	type outer struct {
		Secret   endpoint.Secret
		Endpoint endpoint.Endpoint
		hidden   endpoint.Secret
	}
	v := outer{s, endpoint.Endpoint{Secrets: []endpoint.Secret{s}}, s}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", &s)
		fmt.Fprintf(&out, verb+"\n", v)
		fmt.Fprintf(&out, verb+"\n", &v)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("x", "secret", s, "pointer", &s, "struct", v, "endpoint", v.Endpoint)
	}
	require.NoError(t, json.NewEncoder(&out).Encode(v))
	fmt.Fprintln(&out, s, s.String(), fmt.Errorf("wrapped %v", s))

	text := strings.ToLower(out.String())
	require.Contains(t, text, "[redacted]")
	key := s.Key()
	for _, form := range []string{
		s.Reveal(), strings.TrimPrefix(s.Reveal(), "whsec_"), fmt.Sprintf("%x", key), fmt.Sprint(key),
		strings.Trim(fmt.Sprint(key), "[]"), fmt.Sprintf("%#v", key),
	} {
		require.NotContains(t, text, strings.ToLower(form))
	}
}

func TestSecretText(t *testing.T) {
	t.Parallel()
	s := newSecret(t)
	require.Len(t, s.Key(), 32)
	encoded, ok := strings.CutPrefix(s.Reveal(), "whsec_")
	require.True(t, ok)
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	require.Equal(t, s.Key(), decoded)
	require.NotEqual(t, s.Reveal(), newSecret(t).Reveal())

	again, err := endpoint.ParseSecret(s.Reveal())
	require.NoError(t, err)
	require.Equal(t, s.Key(), again.Key())

	s.Key()[0]++
	require.Equal(t, again.Key(), s.Key(), "Key gives a copy")
}

func TestParseSecretRefuses(t *testing.T) {
	t.Parallel()
	b64 := base64.StdEncoding.EncodeToString
	for name, in := range map[string]string{
		"empty":      "",
		"no prefix":  b64(make([]byte, 32)),
		"no key":     "whsec_",
		"not base64": "whsec_s3cret!s3cret!s3cret!s3cret!",
		"unpadded":   "whsec_" + strings.TrimRight(b64(make([]byte, 32)), "="),
		"too short":  "whsec_" + b64(make([]byte, 23)),
		"too long":   "whsec_" + b64(make([]byte, 65)),
	} {
		s, err := endpoint.ParseSecret(in)
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "s3cret", name)
		require.True(t, s.IsZero(), name)
	}
	var zero endpoint.Secret
	require.Nil(t, zero.Key())
	require.Empty(t, zero.Reveal())
}

func TestRotation(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	first, second, third := newSecret(t), newSecret(t), newSecret(t)
	live := func(secrets []endpoint.Secret, at time.Time) []string {
		var out []string
		for _, s := range (endpoint.Endpoint{Secrets: secrets}).LiveSecrets(at) {
			out = append(out, s.Reveal())
		}
		return out
	}

	secrets := endpoint.Rotate([]endpoint.Secret{first}, second, now)
	require.Equal(t, []string{second.Reveal(), first.Reveal()}, live(secrets, now))
	require.Equal(t, []string{second.Reveal(), first.Reveal()}, live(secrets, now.Add(24*time.Hour-1)))
	require.Equal(t, []string{second.Reveal()}, live(secrets, now.Add(24*time.Hour)))

	again := endpoint.Rotate(secrets, third, now.Add(time.Hour))
	require.Equal(t, []string{third.Reveal(), second.Reveal(), first.Reveal()}, live(again, now.Add(time.Hour)))
	require.Equal(t, []string{third.Reveal(), second.Reveal()}, live(again, now.Add(24*time.Hour)), "the first one's end has not moved")
	require.Equal(t, []string{third.Reveal()}, live(again, now.Add(25*time.Hour)))

	late := endpoint.Rotate(secrets, third, now.Add(48*time.Hour))
	require.Len(t, late, 2, "a secret that has ended is dropped")
	require.Empty(t, live([]endpoint.Secret{{}}, now), "the zero value signs nothing")
}
