package dkim_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dkim"
)

// BenchmarkSign signs messages with RSA, with Ed25519, and with both. Each message is signed with
// go-msgauth in turn, which signs the same fields and reads the message once for each key. The figures
// are CPU time per message in µs, and the ratio of ours to go-msgauth's.
func BenchmarkSign(b *testing.B) {
	ed, rsa := testKeys()[0], testKeys()[1]
	for _, size := range []struct {
		name  string
		bytes int
	}{{"2kB", 2 << 10}, {"10kB", 10 << 10}, {"1MB", 1 << 20}} {
		const line = "A line of a newsletter, with  some <b>HTML</b> in it, as long as most.\n"
		m := email.Message{From: email.Address{Email: "a@example.com"}, To: []email.Address{{Email: "b@example.net"}}, Subject: "News"}
		m.Text = strings.Repeat(line, (size.bytes-400)/(len(line)+4))
		message := []byte(rendered(b, m))
		for _, set := range []struct {
			name string
			keys []dkim.Key
		}{{"RSA", []dkim.Key{rsa}}, {"Ed25519", []dkim.Key{ed}}, {"both", []dkim.Key{rsa, ed}}} {
			b.Run(fmt.Sprintf("%s/%s", size.name, set.name), func(b *testing.B) {
				options := msgauthOptions(b, set.keys)
				var ours, theirs time.Duration
				for b.Loop() {
					begin := cpuTime(b)
					_, err := dkim.Sign(message, set.keys, at)
					require.NoError(b, err)
					middle := cpuTime(b)
					for _, o := range options {
						s, err := msgauth.NewSigner(o)
						require.NoError(b, err)
						_, err = bytes.NewReader(message).WriteTo(s)
						require.NoError(b, err)
						require.NoError(b, s.Close())
					}
					ours += middle - begin
					theirs += cpuTime(b) - middle
				}
				b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "ours-µs")
				b.ReportMetric(float64(theirs.Microseconds())/float64(b.N), "go-msgauth-µs")
				b.ReportMetric(float64(ours)/float64(theirs), "ratio")
				b.ReportMetric(0, "ns/op") // of both together
			})
		}
	}
}

// cpuTime is what the process has used so far: other programs on the machine do not count.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func msgauthOptions(b *testing.B, keys []dkim.Key) (out []*msgauth.SignOptions) {
	b.Helper()
	names := append([]string{"From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"}, oversigned...)
	for _, k := range keys {
		private, err := x509.ParsePKCS8PrivateKey(k.Private.PKCS8())
		require.NoError(b, err)
		out = append(out, &msgauth.SignOptions{
			Domain: k.Domain, Selector: k.Selector, Signer: private.(crypto.Signer), HeaderKeys: names,
			HeaderCanonicalization: msgauth.CanonicalizationRelaxed, BodyCanonicalization: msgauth.CanonicalizationRelaxed,
		})
	}
	return out
}
