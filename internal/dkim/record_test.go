package dkim_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dkim"
	"github.com/postrider/postrider/internal/dkimtest"
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

func TestCheckOfAPublishedRecord(t *testing.T) {
	t.Parallel()
	for _, k := range testKeys() {
		private, a := k.Private, k.Private.Algorithm()
		other, err := dkim.GenerateKey(a)
		require.NoError(t, err)
		p := strings.SplitAfter(private.Record(), "p=")[1]
		record := func(p string) string { return fmt.Sprintf("v=DKIM1; k=%s; p=%s", a, p) }
		spki, err := x509.MarshalPKIXPublicKey(edPublic(t))
		require.NoError(t, err)
		edAsSPKI := base64.StdEncoding.EncodeToString(spki)
		for name, row := range map[string]struct {
			published string
			want      dkim.Problem // empty if it is good
			says      string
		}{
			"as given":                    {private.Record(), "", ""},
			"other order, spaces, a note": {" v = DKIM1 ;\tt=s; n=\"a note\\\"; s=email:x; h=sha1:sha256; x_1=y; p = " + p + " ; k= " + string(a) + ";", "", ""},
			"without v=":                  {fmt.Sprintf("k=%s; p=%s", a, p), "", ""},
			"any service":                 {record(p) + "; s=*", "", ""},
			"quotes around":               {`"` + private.Record() + `"`, dkim.Quotes, `remove " and \`},
			"quotes between strings":      {record(p[:20] + `" "` + p[20:]), dkim.Quotes, `remove " and \`},
			"backslashes":                 {strings.ReplaceAll(private.Record(), ";", `\;`), dkim.Quotes, "backslash"},
			"SPF":                         {"v=spf1 -all", dkim.NotDKIM, `v="spf1 -all"`},
			"v= in lower case":            {strings.Replace(private.Record(), "DKIM1", "dkim1", 1), dkim.NotDKIM, "begin the record with v=DKIM1"},
			"v= last":                     {fmt.Sprintf("k=%s; p=%s; v=DKIM1", a, p), dkim.NotDKIM, "as its tag 3"},
			"no list of tags":             {"google-site-verification=abc", dkim.Unparsable, "where a tag (name=value) should be"},
			"only the key":                {p[:20], dkim.Unparsable, "where a tag (name=value) should be"},
			"an empty tag":                {"v=DKIM1;; p=" + p, dkim.Unparsable, "where a tag"},
			"two keys":                    {private.Record() + "; p=" + p, dkim.Unparsable, "two tags p="},
			"cut off":                     {record(p[:len(p)-8]), dkim.Unparsable, fmt.Sprintf("only %d of the %d characters of p=: publish", len(p)-8, len(p))},
			"no base64":                   {record("a!" + p), dkim.Unparsable, "not base64"},
			"no key":                      {record("aGVsbG8="), dkim.Unparsable, map[dkim.Algorithm]string{dkim.RSA: "not an RSA key", dkim.Ed25519: "5 bytes in p=, and an Ed25519 key has 32"}[a]},
			"Ed25519 in another form":     {record(edAsSPKI), map[dkim.Algorithm]dkim.Problem{dkim.RSA: dkim.OtherKey, dkim.Ed25519: dkim.Unparsable}[a], ""},
			"no p=":                       {"v=DKIM1; k=" + string(a), dkim.MissingKey, "no p= tag"},
			"nothing":                     {"", dkim.MissingKey, "no p= tag"},
			"empty p=":                    {record(""), dkim.Revoked, "rotate to a new key"},
			"empty p= of no algorithm":    {"v=DKIM1; p= ", dkim.Revoked, "revokes the key"},
			"wrong k=":                    {strings.Replace(private.Record(), "k="+string(a), "k=dsa", 1), dkim.WrongAlgorithm, `k="dsa", and the key is ` + string(a) + ": set k=" + string(a)},
			"another key":                 {other.Record(), dkim.OtherKey, "sign with the selector of that key"},
			"no SHA-256":                  {record(p) + "; h=sha1", dkim.Excluded, "add sha256"},
			"no e-mail":                   {record(p) + "; s=tlsrpt", dkim.Excluded, "add email"},
			"spaces in p=":                {record(p[:20] + " \t" + p[20:]), dkim.Spaces, "remove the spaces"},
			"line break in p=":            {record(p[:20] + "\r\n" + p[20:]), dkim.Spaces, "remove the spaces"},
			"testing":                     {private.Record() + "; t=s:y", dkim.Testing, "remove y from t="},
			"long":                        {"v=" + strings.Repeat("x", 9000), dkim.NotDKIM, ""},
		} {
			err := private.Check(row.published)
			if row.want == "" {
				require.NoError(t, err, "%s: %s", a, name)
				continue
			}
			var wrong *dkim.RecordError
			require.True(t, errors.As(err, &wrong), "%s: %s", a, name)
			require.Equal(t, row.want, wrong.Problem, "%s: %s: %v", a, name, err)
			require.ErrorContains(t, err, row.says, "%s: %s", a, name)
			require.Less(t, len(err.Error()), 250, name)
			require.NotEmpty(t, wrong.Remedy)
		}
	}
	ed, rsa := testKeys()[0].Private, testKeys()[1].Private
	require.NoError(t, rsa.Check(strings.Replace(rsa.Record(), " k=rsa;", "", 1)), "rsa is the default")
	require.ErrorContains(t, ed.Check(strings.Replace(ed.Record(), " k=ed25519;", "", 1)), "no k=, and the key is ed25519: set k=ed25519")
	require.ErrorContains(t, ed.Check(rsa.Record()), `k="rsa", and the key is ed25519`)
}

// TestVerifiersAgreeWithCheck compares it with verifiers: a record that one of them refuses has a problem.
func TestVerifiersAgreeWithCheck(t *testing.T) {
	t.Parallel()
	all := dkimtest.Verifiers(t)
	for _, k := range testKeys() {
		fields, err := dkim.Sign([]byte(bare), []dkim.Key{k}, at)
		require.NoError(t, err)
		r := k.Private.Record()
		for _, published := range []string{
			r, r + ";", r + "; t=s", r + "; t=y", r + "; s=email", r + "; h=sha256", r + "; n=x y", strings.TrimPrefix(r, "v=DKIM1; "), strings.ReplaceAll(r, " ", ""),
			`"` + r + `"`, r + "; p=", r + "; s=tlsrpt", strings.ReplaceAll(r, "DKIM1", "dkim1"), r[:len(r)-4], strings.ReplaceAll(r, "p=", "q="), strings.ReplaceAll(r, "k=", "k=x"), "v=DKIM1; p=", "v=spf1 -all", "x", "",
		} {
			for _, v := range all {
				verdict := v.Verify(t, string(fields)+bare, map[string]string{k.RecordName(): published})
				if k.Private.Check(published) == nil {
					require.Equal(t, []string{"good"}, verdict, "%s: %q", v.Name, published)
				}
			}
		}
	}
}

func edPublic(t *testing.T) any {
	t.Helper()
	private, err := x509.ParsePKCS8PrivateKey(testKeys()[0].Private.PKCS8())
	require.NoError(t, err)
	return private.(crypto.Signer).Public()
}
