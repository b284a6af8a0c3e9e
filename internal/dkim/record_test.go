package dkim_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dkim"
)

func TestKeysComeBackFromTheirBytes(t *testing.T) {
	t.Parallel()
	for _, k := range testKeys() {
		again, err := dkim.ParsePrivateKey(k.Private.PKCS8())
		require.NoError(t, err)
		require.Equal(t, k.Private.Algorithm(), again.Algorithm())
		require.Equal(t, k.Private.Record(), again.Record())
		require.Equal(t, k.Private.PKCS8(), again.PKCS8())
		one, err := dkim.Sign([]byte(plain), []dkim.Key{k}, at)
		require.NoError(t, err)
		k.Private = again
		two, err := dkim.Sign([]byte(plain), []dkim.Key{k}, at)
		require.NoError(t, err)
		require.Equal(t, string(one), string(two))
	}
	key, err := x509.ParsePKCS8PrivateKey(testKeys()[1].Private.PKCS8())
	require.NoError(t, err)
	require.Equal(t, 2048, key.(*rsa.PrivateKey).N.BitLen())
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	_, err := dkim.GenerateKey("dsa")
	require.ErrorContains(t, err, `no DKIM algorithm "dsa": choose rsa or ed25519`)
	_, err = dkim.ParsePrivateKey([]byte("xyzzy"))
	require.ErrorContains(t, err, "not PKCS#8 DER")
	require.NotContains(t, err.Error(), "xyzzy")
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(curve)
	require.NoError(t, err)
	_, err = dkim.ParsePrivateKey(der)
	require.ErrorContains(t, err, "cannot sign")
	require.Empty(t, dkim.PrivateKey{}.Algorithm())
}

// TestRSAKeysOf512BitsAreRefused is not parallel: it sets an environment variable.
func TestRSAKeysOf512BitsAreRefused(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	small, err := rsa.GenerateKey(rand.Reader, 512)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(small)
	require.NoError(t, err)
	_, err = dkim.ParsePrivateKey(der)
	require.ErrorContains(t, err, "512 bits, the least is 1024")
}

func TestKeysPrintAsRedacted(t *testing.T) {
	t.Parallel()
	for _, k := range testKeys() {
		private, err := x509.ParsePKCS8PrivateKey(k.Private.PKCS8())
		require.NoError(t, err)
		secret := fmt.Sprintf("%v", private)[1:20]
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k.Private, "in a struct", k)
		text, err := json.Marshal(k)
		require.NoError(t, err)
		for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s %x", k.Private, k.Private, k.Private, k.Private, k.Private), fmt.Sprintf("%v %+v %s", k, &k, k), log.String(), string(text)} {
			require.Contains(t, printed, "[redacted]")
			require.NotContains(t, printed, secret)
		}
		require.NotContains(t, fmt.Sprintf("%v %#v", struct{ k dkim.Key }{k}, struct{ k dkim.Key }{k}), secret)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	ed, rsa := testKeys()[0], testKeys()[1]
	require.Equal(t, "pr1-rsa._domainkey.example.com", rsa.RecordName())
	require.Regexp(t, `^v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A[A-Za-z0-9+/]+IDAQAB$`, rsa.Private.Record())
	require.Len(t, rsa.Private.Record(), 410)
	require.Regexp(t, `^v=DKIM1; k=ed25519; p=[A-Za-z0-9+/]{43}=$`, ed.Private.Record())
}
