package senderdomain_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/dkim"
	"github.com/postrider/postrider/internal/dkimtest"
	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/senderdomain"
)

// TestVerifiersTakeWhatIsVerified compares the check of a key's record with programs that verify
// signatures: they take each record that we call verified. Each row says whether we do.
func TestVerifiersTakeWhatIsVerified(t *testing.T) {
	t.Parallel()
	verifiers := dkimtest.Verifiers(t)
	message := "From: a@x.example\r\nSubject: x\r\n\r\nHello\r\n"
	n, client := setup(t)
	var lines []string
	var records []senderdomain.Record
	var check []func(status senderdomain.Status)
	for _, algorithm := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		private, err := dkim.GenerateKey(algorithm)
		require.NoError(t, err)
		key := dkim.Key{Domain: "x.example", Selector: "s", Private: private}
		signature, err := dkim.Sign([]byte(message), []dkim.Key{key}, time.Now())
		require.NoError(t, err)
		r := private.Record()
		for published, good := range map[string]bool{
			r: true, r + ";": true, r + "; t=s": true, r + "; s=email": true, r + "; s=*": true, r + "; h=sha1:sha256": true, r + "; n=x y": true,
			strings.TrimPrefix(r, "v=DKIM1; "): true, strings.ReplaceAll(r, " ", ""): true, strings.Replace(r, " k=rsa;", "", 1): true,
			r + "; t=y": false, `"` + r + `"`: false, r + "; p=": false, r + "; s=tlsrpt": false, r + "; h=sha1": false, strings.ReplaceAll(r, "DKIM1", "dkim1"): false,
			r[:len(r)-4]: false, strings.ReplaceAll(r, "p=", "q="): false, strings.ReplaceAll(r, "k=", "k=x"): false, strings.ReplaceAll(r, ";", `\;`): false,
			strings.TrimPrefix(r, "v=DKIM1; ") + "; v=DKIM1": false, "v=DKIM1; p=": false, "v=spf1 -all": false, "x": false,
		} {
			name := fmt.Sprintf("s%d._domainkey", len(lines))
			lines = append(lines, txt(name, published))
			records = append(records, senderdomain.Record{Kind: senderdomain.DKIM, Type: dnslookup.TXT, FQDN: name + ".x.example", Value: r, Required: true})
			check = append(check, func(status senderdomain.Status) {
				require.Equal(t, good, status == senderdomain.Verified, "%s: %q", algorithm, published)
				for _, v := range verifiers {
					verdict := v.Verify(t, string(signature)+message, map[string]string{"s._domainkey.x.example": published})
					if good {
						require.Equal(t, []string{"good"}, verdict, "%s: %q", v.Name, published)
					}
				}
			})
		}
	}
	n.Zone(t, "x.example", []string{"ns1.x.example"}, lines...)
	for i, r := range senderdomain.Check(t.Context(), client, records) {
		check[i](r.Status)
	}
}
