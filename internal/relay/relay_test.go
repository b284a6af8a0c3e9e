package relay_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtp"
)

func TestParseRelay(t *testing.T) {
	t.Parallel()
	r, err := relay.Parse("smtp://user:secret@mail.example.com?name=primary&max_conns=3&accepts=final&streams=transactional,broadcast&domains=X.com&local_addr=127.0.0.1&sends_from=192.0.2.1,::ffff:192.0.2.2,2001:db8::1")
	require.NoError(t, err)
	require.Equal(t, 587, r.Port)
	require.Equal(t, smtp.TLSRequired, r.TLS)
	require.Equal(t, []string{"x.com"}, r.Domains)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("relay", "relay", r, "password", r.Password, "in", struct{ P smtp.Password }{r.Password})
	printed := fmt.Sprintf("%v %+v %#v %s %d %x %q %v", r, r, r, r, r.Password, r.Password, r.Password, struct{ R relay.Relay }{r}) + log.String()
	require.NotContains(t, printed, "secret")
	require.NotContains(t, printed, fmt.Sprintf("%x", "secret"))
	require.Contains(t, printed, "primary (mail.example.com:587, tls=starttls)")
	r, err = relay.Parse("smtps://[::1]")
	require.NoError(t, err)
	require.Equal(t, 465, r.Port)
	require.Equal(t, smtp.TLSImplicit, r.TLS)
	r, err = relay.Parse("smtp://localhost:2525")
	require.NoError(t, err)
	require.Equal(t, smtp.TLSOpportunistic, r.TLS)
	for raw, want := range map[string]string{
		"mail.example.com":                "expected smtp://",
		"http://mail.example.com":         "expected smtp://",
		"smtp://":                         "expected smtp://",
		"smtp://h:99999":                  "65535",
		"smtp://u:secret@h?tls=maybe":     "tls",
		"smtp://u:secret@h?colour=red":    "there is no option colour",
		"smtp://h?max_conns=0":            "max_conns",
		"smtp://h?accepts=maybe":          "accepts",
		"smtp://h?streams=x":              "streams",
		"smtp://h?auth=magic":             "auth",
		"smtp://h?local_addr=x":           "local_addr",
		"smtp://h?sends_from=x":           `sends_from: "x" is not an IP address`,
		"smtp://h?sends_from=fe80::1%25e": "is not an IP address",
		"smtp://h?sends_from=192.0.2.1" + strings.Repeat(",192.0.2.1", 16): "has 17 addresses, the limit is 16",
		"smtp://h?tls_ca=/does/not/exist":                                  "tls_ca",
		"smtp://h?rate=50":                                                 "50/s",
		"smtp://h?rate=0/s":                                                "50/s",
		"smtp://h?rate=1/d":                                                "50/s",
		"smtps://h?tls=none":                                               "tls=implicit",
		"smtp://h?tls=none&tls=starttls":                                   "tls is given 2 times",
		"smtp://h?name=":                                                   "name",
		"smtp://h?domains=x.test,":                                         "domains",
		"smtp://h?helo=a%0d%0ab":                                           "helo",
		"smtp://h?greeting_timeout=6m":                                     "greeting_timeout",
		"smtp://h?tls_ca=relay.go":                                         "holds no PEM certificate",
		"smtp://u:sec%zzret@h":                                             "expected smtp://",
		"smtp://h?a;b":                                                     "name=value",
		"smtp://u:secret@h/path":                                           "expected smtp://",
	} {
		_, err := relay.Parse(raw)
		require.ErrorContains(t, err, want, raw)
		require.NotContains(t, err.Error(), "secret", raw)
	}
}
