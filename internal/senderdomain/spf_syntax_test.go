package senderdomain

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A syntax error anywhere in a record makes it useless (RFC 7208, section 4.6).
func TestSPFSyntax(t *testing.T) {
	t.Parallel()
	for _, right := range []string{
		"v=spf1", "V=SPF1 ", "v=spf1 -all", "v=spf1 +MX ~ALL", "v=spf1  ip4:192.0.2.1  ip4:192.0.2.0/24 ip6:2001:db8::1 ip6:2001:db8::/32 ?all ",
		"v=spf1 a mx a:x.example mx:x.example a/24 mx//64 a:x.example/24//64 -ptr ptr:x.example", "v=spf1 include:_spf.x.example redirect=x.example.",
		"v=spf1 exists:%{ir}.%{v}._spf.%{d2} -all", "v=spf1 exists:%{L1r-+/}.x.example", "v=spf1 include:%{d}", "v=spf1 a:%{d}/24", "v=spf1 exists:%%a%_b%-c.example",
		"v=spf1 exp=%{d}.x.example moo=a,b=c ra= rr=%{c}", "v=spf1 include:x.xn--p1ai", "v=spf1 ip4:0.0.0.0/0",
		"v=spf10 nonsense", "spf2.0/pra ipx:foo", "v=spf1ip4:1", "google-site-verification=x", "",
	} {
		require.Empty(t, spfFault(right), right)
	}
	for _, term := range []string{
		"ipx:foo", "ip4:192.0.2.999", "ip4:192.0.2.1/33", "ip4:192.0.2.1/", "ip4:192.0.2.1/024", "ip4:2001:db8::1", "ip6:192.0.2.1", "ip6:2001:db8::/129", "ip4", "ip4:", "--ip4:192.0.2.1",
		"all:x.example", "all/24", "include", "include:", "include:x", "include:x.123", "include:x.example/24", "exists:", "a:", "a:x.example/33", "a//129", "mx/", "mx/24/64",
		"a:%{x}.example", "a:%{d", "a:%d.example", "exists:%{c}.x.example", "redirect=", "redirect=x", "foo", "foo:bar", "-foo=bar", "ptr:", "\tall", "a:\u00fc.example", "=x", "exp=x",
	} {
		require.Equal(t, fmt.Sprintf("the term %q of the SPF record is wrong", term), spfFault("v=spf1 ip4:192.0.2.1 "+term+" -all"))
	}
	require.NotEmpty(t, spfFault("v=spf1 redirect=x.example redirect=x.example"))
	require.NotEmpty(t, spfFault("v=spf1 exp=x.example -all EXP=y.example"))
}
