package intake_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/intake"
)

func TestAddress(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("b", 63)
	longest := strings.Repeat("a", 64) + "@" + label + "." + label + "." + strings.Repeat("c", 61)
	require.Len(t, longest, 254)
	for in, want := range map[string]string{
		"a@b.test":                    "a@b.test",
		"A.b+c@B.Test":                "A.b+c@b.test",
		"ü@bücher.de":                 "ü@xn--bcher-kva.de",
		"用户@例え。JP":                    "用户@xn--r8jz45g.jp",
		"a@xn--bcher-kva.de":          "a@xn--bcher-kva.de",
		"a@b.test.":                   "a@b.test",
		"x!#$%&'*+-/=?^_`{|}~@b.test": "x!#$%&'*+-/=?^_`{|}~@b.test",
		longest:                       longest,
	} {
		got, err := intake.Address(in, " Name ")
		require.NoError(t, err, in)
		require.Equal(t, email.Address{Email: want, Name: "Name"}, got)
		again, err := intake.Address(got.Email, got.Name)
		require.NoError(t, err)
		require.Equal(t, got, again, "the normal form stays")
	}
}

func TestAddressRefusesAList(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"a@b.test,c@d.test", "a@b.test, c@d.test", "a@b.test;c@d.test", "a@b.test c@d.test", "a@b.test\tc@d.test"} {
		_, err := intake.Address(in, "")
		require.EqualError(t, err, "there is more than one address; give each by itself", in)
	}
}

func TestAddressRefusals(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("b", 63)
	for _, in := range []string{
		"", "a", "@", "@b.test", "a@", "a@b", "a@b.test@", ".a@b.test", "a.@b.test", "a..b@b.test", `"a b"@b.test`, `"a"@b.test`, "a b@b.test", "a@b@b.test", "a@b.test(x)", "(x)a@b.test",
		"a@[127.0.0.1]", "a@127.0.0.1", "a@[IPv6:::1]", "a@-x.test", "a@x-.test", "a@b_c.test", "a@b..test", "a@b.test..", "a@.b.test", "a@xn--a.test", "a@b.test>", "<a@b.test>", "N <a@b.test>",
		strings.Repeat("a", 65) + "@b.test", strings.Repeat("ü", 33) + "@b.test", "a@" + label + "b.test", strings.Repeat("a", 64) + "@" + label + "." + label + "." + strings.Repeat("c", 62),
		"a@b.test\r\n", "a\r\n@b.test", "a\x00@b.test", "a@b.test SIZE=1", "a@b.test, c@d.test", "a,b@b.test", "a@b.test;", "a\u202e@b.test", "a\u00a0@b.test", "\xff@b.test", "a@\xff.test",
	} {
		_, err := intake.Address(in, "")
		require.Error(t, err, "%q", in)
		require.NotContains(t, err.Error(), "b.test", "errors do not repeat the value")
	}
	for _, name := range []string{"x\ny", "x\x00", "x\u0085y", "x\u2029y", strings.Repeat("x", 256)} {
		_, err := intake.Address("a@b.test", name)
		require.Error(t, err, "%q", name)
	}
}

func TestDomain(t *testing.T) {
	t.Parallel()
	got, err := intake.Domain("BÜCHER.Example.")
	require.NoError(t, err)
	require.Equal(t, "xn--bcher-kva.example", got)
	for _, in := range []string{"", ".", "com", "a b.test", "10.0.0.1", "a..test", "*.test", "a@b.test"} {
		_, err := intake.Domain(in)
		require.Error(t, err, in)
	}
}
