package senderdomain_test

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/senderdomain"
)

// key has the length of an RSA-2048 key.
var key = strings.Repeat("MIIBIjAN+/9g", 33)[:392]

var rsa = senderdomain.Key{Selector: "pr1r", Value: "v=DKIM1; k=rsa; p=" + key}

var ed25519 = senderdomain.Key{Selector: "pr1e", Value: "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}

func TestRecords(t *testing.T) {
	t.Parallel()
	type row struct {
		kind     senderdomain.Kind
		required bool
		fqdn     string
		value    string
	}
	for name, of := range map[string]struct {
		needs senderdomain.Needs
		want  []row
	}{
		"keys and a return path": {
			senderdomain.Needs{Domain: "x.example", RSA: rsa, Ed25519: ed25519, BounceHost: "b.host.example"},
			[]row{
				{senderdomain.DKIM, true, "pr1r._domainkey.x.example", rsa.Value},
				{senderdomain.DKIM, false, "pr1e._domainkey.x.example", ed25519.Value},
				{senderdomain.ReturnPath, false, "bounce.x.example", "b.host.example"},
				{senderdomain.DMARC, false, "_dmarc.x.example", "v=DMARC1; p=none"},
			},
		},
		"the installation's host for bounces, which is in the domain": {
			senderdomain.Needs{Domain: "x.example", BounceHost: "bounce.x.example"},
			[]row{
				{senderdomain.DMARC, false, "_dmarc.x.example", "v=DMARC1; p=none"},
			},
		},
		"the installation's host for bounces is the domain": {
			senderdomain.Needs{Domain: "x.example", BounceHost: "x.example"},
			[]row{
				{senderdomain.DMARC, false, "_dmarc.x.example", "v=DMARC1; p=none"},
			},
		},
		"the installation's host for bounces is in another domain": {
			senderdomain.Needs{Domain: "x.example", BounceHost: "bounce.xx.example"},
			[]row{
				{senderdomain.ReturnPath, false, "bounce.x.example", "bounce.xx.example"},
				{senderdomain.DMARC, false, "_dmarc.x.example", "v=DMARC1; p=none"},
			},
		},
		"a relay that signs": {
			senderdomain.Needs{Domain: "x.example"},
			[]row{
				{senderdomain.DMARC, false, "_dmarc.x.example", "v=DMARC1; p=none"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []row
			for _, r := range senderdomain.Records(of.needs) {
				got = append(got, row{r.Kind, r.Required, r.FQDN, r.Value})
				require.Equal(t, r.FQDN, r.Name+".x.example")
				require.Equal(t, senderdomain.NotStarted, r.Status)
				require.Equal(t, "Auto", r.TTL)

				// A zone file's reader finds the same record.
				rr, err := dns.NewRR(r.ZoneFile)
				require.NoError(t, err, r.ZoneFile)
				require.Equal(t, r.FQDN+".", rr.Header().Name)
				switch rr := rr.(type) {
				case *dns.TXT:
					require.Equal(t, r.Value, strings.Join(rr.Txt, ""))
					for _, s := range rr.Txt {
						require.LessOrEqual(t, len(s), 255)
					}
				case *dns.CNAME:
					require.Equal(t, r.Value+".", rr.Target)
				default:
					require.Fail(t, "another type", r.ZoneFile)
				}
			}
			require.Equal(t, of.want, got)
		})
	}
}

func TestTheZoneFileOfALongKey(t *testing.T) {
	t.Parallel()
	records := senderdomain.Records(senderdomain.Needs{Domain: "x.example", RSA: rsa})
	require.Equal(t, `pr1r._domainkey.x.example. IN TXT ( "`+rsa.Value[:255]+`" "`+rsa.Value[255:]+`" )`, records[0].ZoneFile)
}
