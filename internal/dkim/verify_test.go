package dkim_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dkim"
)

// at is in the past: dkimpy refuses a time that is more than ten hours ahead.
var at = time.Date(2026, 3, 4, 5, 6, 7, 890, time.FixedZone("CET", 3600))

// testKeys are made once: an RSA key takes long. The Ed25519 key comes first, and its field last.
var testKeys = sync.OnceValue(func() []dkim.Key {
	var out []dkim.Key
	for _, a := range []dkim.Algorithm{dkim.Ed25519, dkim.RSA} {
		private, err := dkim.GenerateKey(a)
		if err != nil {
			panic(err)
		}
		out = append(out, dkim.Key{Domain: "example.com", Selector: "pr1-" + string(a), Private: private})
	}
	return out
})

func published(keys []dkim.Key) map[string]string {
	out := map[string]string{}
	for _, k := range keys {
		out[k.RecordName()] = k.Private.Record()
	}
	return out
}

// sign returns the message as SMTP sends it: with its signatures, and with its last line ended.
func sign(t testing.TB, message string) string {
	t.Helper()
	fields, err := dkim.Sign([]byte(message), testKeys(), at)
	require.NoError(t, err)
	if !bytes.HasSuffix([]byte(message), []byte("\r\n")) {
		message += "\r\n"
	}
	return string(fields) + message
}

// both is the verdict on two good signatures.
var both = []string{"good", "good"}
