package safehttp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	strict := New(Options{})
	for _, raw := range []string{
		"https://example.com", "https://example.com/", "HTTPS://Example.COM/hooks?id=1&token=x", "https://example.com:443/", "https://example.com:80/",
		"https://example.com:1024/", "https://example.com:65535/", "https://xn--bcher-kva.example/", "https://example.com./", "https://hook_svc.internal/",
		"https://1.1.1.1/", "https://[2606:4700::1111]:8443/", "https://n8n/", "https://0x.example/", "https://1.2.3.4.example/",
	} {
		require.NoError(t, strict.CheckURL(raw), raw)
	}
	for raw, part := range map[string]string{
		"":                                                    "absolute",
		"example.com/hook":                                    "absolute",
		"//example.com/hook":                                  "absolute",
		"ftp://example.com/":                                  "absolute",
		"file:///etc/passwd":                                  "absolute",
		"gopher://example.com:70/":                            "absolute",
		"http://example.com/":                                 "https://",
		"https:example.com":                                   "no host",
		"https:///path":                                       "no host",
		"https://:443/":                                       "no host",
		"https://user:pw@example.com/":                        "user name",
		"https://user@example.com/":                           "user name",
		"https://@example.com/":                               "user name",
		"https://example.com@127.0.0.1/":                      "user name",
		"https://example.com/#frag":                           "fragment",
		"https://example.com/#":                               "fragment",
		"https://example.com:/":                               "no port",
		"https://example.com:22/":                             "port",
		"https://example.com:25/":                             "port",
		"https://example.com:0/":                              "port",
		"https://example.com:1023/":                           "port",
		"https://example.com:65536/":                          "port",
		"https://example.com:443x/":                           "not a URL",
		"https://2130706433/":                                 "IPv4",
		"https://0x7f.1/":                                     "IPv4",
		"https://0x7f000001/":                                 "IPv4",
		"https://0x/":                                         "IPv4",
		"https://017700000001/":                               "IPv4",
		"https://0177.0.0.1/":                                 "IPv4",
		"https://127.1/":                                      "IPv4",
		"https://127.0.0.1./":                                 "IPv4",
		"https://1.2.3.4.5/":                                  "IPv4",
		"https://127.0.0.1/":                                  "loopback",
		"https://10.0.0.1/":                                   "private",
		"https://169.254.169.254/latest/":                     "link-local",
		"https://[::1]/":                                      "loopback",
		"https://[::ffff:127.0.0.1]/":                         "loopback",
		"https://[::ffff:7f00:1]/":                            "loopback",
		"https://[64:ff9b::7f00:1]/":                          "loopback",
		"https://[2002:7f00:1::]/":                            "loopback",
		"https://[fe80::1%25eth0]/":                           "IPv6",
		"https://localhost/":                                  "loopback",
		"https://LocalHost.:8443/":                            "loopback",
		"https://db.localhost/":                               "loopback",
		"https://bücher.example/":                             "xn--",
		"https://１２７.０.０.１/":                                  "xn--",
		"https://127。0。0。1/":                                  "xn--",
		"https://%31%32%37.0.0.1/":                            "not a URL",
		"https://exa mple.com/":                               "not a URL",
		"https://example.com\r\nX: y/":                        "not a URL",
		"https://-a.example/":                                 "not valid",
		"https://a..example/":                                 "not valid",
		"https://a,b.example/":                                "not valid",
		"https://" + strings.Repeat("a", 64) + ".example/":    "not valid",
		"https://" + strings.Repeat("a.", 127) + "example/":   "longer",
		"https://example.com/" + strings.Repeat("a", 2048-19): "2049 bytes, limit 2048",
	} {
		err := strict.CheckURL(raw)
		require.ErrorContains(t, err, part, raw)
	}
}

func TestCheckURLSaysNothingOfTheURL(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"https://user:s3cret@example.com/", "http://example.com/?key=s3cret", "https://exa mple.com/?key=s3cret", "https://127.0.0.1/?key=s3cret",
		"https://example.com:1/s3cret", "https://s3cret.example:x/",
	} {
		require.NotContains(t, New(Options{}).CheckURL(raw).Error(), "s3cret", raw)
	}
}

func TestCheckURLFollowsTheOptions(t *testing.T) {
	t.Parallel()
	dev := New(Options{AllowHTTP: true, AllowLoopback: true})
	require.NoError(t, dev.CheckURL("http://localhost:9000/hook"))
	require.NoError(t, dev.CheckURL("http://127.0.0.1:9000/hook"))
	require.NoError(t, dev.CheckURL("http://[::1]:9000/hook"))
	require.Error(t, dev.CheckURL("http://0x7f.1:9000/hook"))
	require.Error(t, dev.CheckURL("http://10.0.0.1/hook"))
	lan := New(Options{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16")}})
	require.NoError(t, lan.CheckURL("https://10.0.0.1/hook"))
	require.Error(t, lan.CheckURL("https://169.254.169.254/hook"))
	require.Error(t, lan.CheckURL("http://10.0.0.1/hook"))
}
