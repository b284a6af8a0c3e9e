package webhook_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/webhook"
)

func newSecret(t *testing.T) endpoint.Secret {
	t.Helper()
	s, err := endpoint.NewSecret()
	require.NoError(t, err)
	return s
}

// verify is what a receiver does: the official library with the secret as it
// was shown.
func verify(t *testing.T, s endpoint.Secret, body []byte, header http.Header) error {
	t.Helper()
	wh, err := standardwebhooks.NewWebhook(s.Reveal())
	require.NoError(t, err)
	return wh.Verify(body, header)
}

func signed(id string, at time.Time, body []byte, secrets ...endpoint.Secret) http.Header {
	h := http.Header{}
	h.Set(webhook.HeaderID, id)
	h.Set(webhook.HeaderTimestamp, strconv.FormatInt(at.Unix(), 10))
	h.Set(webhook.HeaderSignature, webhook.Sign(id, at, body, secrets...))
	return h
}

// The vector that the official libraries publish in their tests.
func TestPublishedVector(t *testing.T) {
	t.Parallel()
	s, err := endpoint.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	require.NoError(t, err)
	got := webhook.Sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`), s)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
}

func TestOfficialLibraryVerifies(t *testing.T) {
	t.Parallel()
	now, body := time.Now(), []byte(`{"type":"email.delivered","ä":"ü"}`)
	s := newSecret(t)
	header := signed("msg_1", now, body, s)
	require.NoError(t, verify(t, s, body, header))
	require.ErrorIs(t, verify(t, newSecret(t), body, header), standardwebhooks.ErrNoMatchingSignature)
	require.ErrorIs(t, verify(t, s, append(body, ' '), header), standardwebhooks.ErrNoMatchingSignature)
	header.Set(webhook.HeaderID, "msg_2")
	require.ErrorIs(t, verify(t, s, body, header), standardwebhooks.ErrNoMatchingSignature)
	require.ErrorIs(t, verify(t, s, body, signed("msg_1", now.Add(-6*time.Minute), body, s)), standardwebhooks.ErrMessageTooOld)
}

func TestBothSecretsVerifyDuringRotation(t *testing.T) {
	t.Parallel()
	now, body := time.Now(), []byte(`{}`)
	old, fresh := newSecret(t), newSecret(t)
	e := endpoint.Endpoint{Secrets: endpoint.Rotate([]endpoint.Secret{old}, fresh, now)}

	header := signed("msg_1", now, body, e.LiveSecrets(now)...)
	require.NoError(t, verify(t, old, body, header))
	require.NoError(t, verify(t, fresh, body, header))
	signatures := strings.Split(header.Get(webhook.HeaderSignature), " ")
	require.Len(t, signatures, 2)
	require.Equal(t, webhook.Sign("msg_1", now, body, fresh), signatures[0], "newest first")

	header = signed("msg_1", now, body, e.LiveSecrets(now.Add(endpoint.RotationOverlap))...)
	require.NoError(t, verify(t, fresh, body, header))
	require.Error(t, verify(t, old, body, header))
}

func TestNoSecretSignsNothing(t *testing.T) {
	t.Parallel()
	require.Empty(t, webhook.Sign("msg_1", time.Now(), []byte(`{}`)))
	require.Empty(t, webhook.Sign("msg_1", time.Now(), []byte(`{}`), endpoint.Secret{}))
}
