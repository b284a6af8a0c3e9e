package config

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	testKey      = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	testDatabase = "postgres://postrider:hunter2@db.internal:5432/postrider"
	testRelay    = "smtp://user:s3cret@relay.example.com:587?name=primary&tls=starttls&accepts=relay"
)

// complete is an environment that is sufficient for every command, with more variables added.
func complete(more ...string) []string {
	return append([]string{
		"PATH=/usr/bin", "DATABASE_URL=" + testDatabase, "POSTRIDER_SECRET_KEY=" + testKey, "POSTRIDER_SMTP_URLS=" + testRelay,
	}, more...)
}

func problems(t *testing.T, err error) Problems {
	t.Helper()
	var p Problems
	require.ErrorAs(t, err, &p)
	require.NotEmpty(t, p)
	return p
}

func TestLoadDefaults(t *testing.T) {
	t.Parallel()
	cfg, err := Load(complete(), ServeWorker, Checks{})
	require.NoError(t, err)
	require.Equal(t, Config{
		DatabaseURL: NewSecret(testDatabase), SecretKey: mustKey(t), SMTPURLs: RelayURLs{testRelay},
		Listen: ":8080", HealthListen: ":8081",
		RequireVerifiedDomains: true, MaxMessageBytes: 26214400, MaxRecipients: 50, RequestRate: 500, CustomerRequestRate: 1000, MaxConnectionsPerIP: 256,
		RetrySchedule: []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
			time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour, 12 * time.Hour},
		ExpireAfter: 72 * time.Hour,
		WebhookSchedule: []time.Duration{0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
			5 * time.Hour, 10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour},
		DrainTimeout: 2 * time.Minute, RelayProbeInterval: Interval(time.Minute), DevDir: ".postrider",
		InboundMaxMessageBytes: 50 << 20, RequestSpoolBytes: 1 << 30, InboundSpoolBytes: 1 << 30, InboundMaxConnections: 200, InboundMaxConnectionsPerIP: 50,
		InboundMaxRecipients: 1000, InboundMaxErrors: 100,
		InboundMailTimeout: time.Minute, InboundReadTimeout: 5 * time.Minute, InboundSessionTimeout: time.Hour,
		DevPostgresPort: 15432, DevTemporalPort: 17233, DevTemporalUIPort: 18233,
		use: ServeWorker,
	}, cfg)
}

func TestLoadRecipientRates(t *testing.T) {
	t.Parallel()
	cfg, err := Load(complete("POSTRIDER_RECIPIENT_RATES=Gmail.com=20/s, outlook.com=600/m,*=3600/h"), Worker, Checks{})
	require.NoError(t, err)
	require.Equal(t, []RecipientRate{{"gmail.com", "20/s", 50 * time.Millisecond}, {"outlook.com", "600/m", 100 * time.Millisecond}, {"*", "3600/h", time.Second}}, cfg.RecipientRates)
	require.Contains(t, cfg.Lines(), "POSTRIDER_RECIPIENT_RATES=gmail.com=20/s,outlook.com=600/m,*=3600/h")
	for _, wrong := range []string{"gmail.com", "gmail.com=20", "gmail.com=0/s", "=1/s", "gmail=1/s", "x y.com=1/s", "gmail.com=1/s,GMAIL.com=2/s", "gmail.com=1/s,", "*.com=1/s", "gmail.com=1/d"} {
		_, err := Load(complete("POSTRIDER_RECIPIENT_RATES="+wrong), Worker, Checks{})
		require.Len(t, problems(t, err), 1, wrong)
	}
}

func TestLoadDNSServers(t *testing.T) {
	t.Parallel()
	cfg, err := Load(complete("POSTRIDER_DNS_SERVERS=192.0.2.53:53, [2001:db8::53]:5353,dns.internal:53"), Worker, Checks{})
	require.NoError(t, err)
	require.Equal(t, DNSServers{"192.0.2.53:53", "[2001:db8::53]:5353", "dns.internal:53"}, cfg.DNSServers)
	require.Contains(t, cfg.Lines(), "POSTRIDER_DNS_SERVERS=192.0.2.53:53,[2001:db8::53]:5353,dns.internal:53")
	for _, wrong := range []string{"192.0.2.53", "2001:db8::53", ":53", "192.0.2.53:0", "192.0.2.53:dns", "192.0.2.53:53,"} {
		_, err := Load(complete("POSTRIDER_DNS_SERVERS="+wrong), Worker, Checks{})
		require.Len(t, problems(t, err), 1, wrong)
	}
}

func TestLoadBlockedAttachments(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][]string{"": nil, "none": {}, ".EXE, js": {"exe", "js"}} {
		cfg, err := Load(complete("POSTRIDER_BLOCKED_ATTACHMENTS="+value), Serve, Checks{})
		require.NoError(t, err)
		require.Equal(t, want, cfg.BlockedAttachments, "%q", value)
		shown := map[string]string{"": "not set", "none": "none", ".EXE, js": "exe,js"}[value]
		require.Contains(t, cfg.Lines(), "POSTRIDER_BLOCKED_ATTACHMENTS="+shown)
	}
}

func TestLoadValues(t *testing.T) {
	t.Parallel()
	cfg, err := Load(complete(
		"POSTRIDER_LISTEN= 127.0.0.1:9000\r", // a file with Windows line ends
		"POSTRIDER_PUBLIC_URL=https://mail.example.com/",
		"POSTRIDER_TEMPORAL_UI_URL=https://temporal.example.com/ui//",
		"POSTRIDER_ALLOW_PRIVATE_CIDRS=10.20.0.0/16, fd00:20::/32",
		"POSTRIDER_ALLOW_HTTP=1",
		"POSTRIDER_REQUIRE_VERIFIED_DOMAINS=false",
		"POSTRIDER_MAX_MESSAGE_BYTES=1048576",
		"POSTRIDER_RETRY_SCHEDULE=1s, 90s",
		"POSTRIDER_WEBHOOK_SCHEDULE=0s",
		"POSTRIDER_DRAIN_TIMEOUT=10s",
		"POSTRIDER_RECORDING_URL=https://rec.internal/{customer_id}/{id}",
		"POSTRIDER_RECORDING_TOKEN=t0ken\n",
		"POSTRIDER_LOG_LEVEL=WARN",
		"POSTRIDER_DEV_POSTGRES_PORT=0",
		"POSTRIDER_HEALTH_LISTEN=", // empty is as good as not set
	), Worker, Checks{})
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9000", cfg.Listen)
	require.Equal(t, ":8081", cfg.HealthListen)
	require.Equal(t, "https://mail.example.com", cfg.PublicURL)
	require.Equal(t, "https://temporal.example.com/ui", cfg.TemporalUIURL)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16"), netip.MustParsePrefix("fd00:20::/32")}, cfg.AllowPrivateCIDRs)
	require.True(t, cfg.AllowHTTP)
	require.False(t, cfg.RequireVerifiedDomains)
	require.EqualValues(t, 1048576, cfg.MaxMessageBytes)
	require.Equal(t, []time.Duration{time.Second, 90 * time.Second}, cfg.RetrySchedule)
	require.Equal(t, []time.Duration{0}, cfg.WebhookSchedule)
	require.Equal(t, 10*time.Second, cfg.DrainTimeout)
	require.Equal(t, "t0ken", cfg.RecordingToken.Reveal())
	require.Equal(t, "WARN", cfg.LogLevel.String())
	require.Zero(t, cfg.DevPostgresPort)
	require.False(t, cfg.AllowLoopback)
	require.False(t, cfg.Dev)
}

func TestLoadForDev(t *testing.T) {
	t.Parallel()
	t.Run("needs nothing", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load(nil, DevUse, Checks{Relay: func(string) error { return errors.New("not for the inbox") }})
		require.NoError(t, err)
		require.True(t, cfg.Dev)
		require.True(t, cfg.AllowLoopback)
		require.True(t, cfg.AllowHTTP)
		require.Empty(t, cfg.DatabaseURL.Reveal())
		require.Empty(t, cfg.SecretKey.Bytes())
		require.Equal(t, "127.0.0.1:2525", cfg.InboundListen)
		require.Equal(t, RelayURLs{"smtp://127.0.0.1:2525?name=inbox&tls=none&accepts=final"}, cfg.SMTPURLs)
	})
	t.Run("the relay follows the inbox", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load([]string{"POSTRIDER_INBOUND_LISTEN=:3525"}, DevUse, Checks{})
		require.NoError(t, err)
		require.Equal(t, RelayURLs{"smtp://127.0.0.1:3525?name=inbox&tls=none&accepts=final"}, cfg.SMTPURLs)
	})
	t.Run("what is set is kept", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load(complete("POSTRIDER_ALLOW_HTTP=false"), DevUse, Checks{})
		require.NoError(t, err)
		require.Equal(t, RelayURLs{testRelay}, cfg.SMTPURLs)
		require.Equal(t, testDatabase, cfg.DatabaseURL.Reveal())
		require.False(t, cfg.AllowHTTP)
	})
}

func TestLoadMissingSettings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		use  Use
		want []string
	}{
		"serve":          {Serve, []string{"DATABASE_URL", "POSTRIDER_SECRET_KEY"}},
		"worker":         {Worker, []string{"DATABASE_URL", "POSTRIDER_SMTP_URLS", "POSTRIDER_SECRET_KEY"}},
		"serve --worker": {ServeWorker, []string{"DATABASE_URL", "POSTRIDER_SMTP_URLS", "POSTRIDER_SECRET_KEY"}},
		"tools":          {Tool, []string{"DATABASE_URL", "POSTRIDER_SECRET_KEY"}},
		"migrate":        {Migrate, []string{"DATABASE_URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load([]string{"DATABASE_URL="}, tt.use, Checks{})
			var got []string
			for _, p := range problems(t, err) {
				got = append(got, p.Name)
				require.Contains(t, p.Wrong, "is not set")
				require.NotEmpty(t, p.Example)
			}
			require.Equal(t, tt.want, got)
		})
	}
}

func TestLoadInvalidSettings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ variable, want string }{
		{"DATABASE_URL=mysql://u:hunter2@db/x", "does not begin with postgres:// or postgresql://"},
		{"DATABASE_URL=postgres://u:hun%ter2@db/x", "is not a URL: are the special characters in user and password percent-encoded?"},
		{"DATABASE_URL=postgres:///x", "names no host"},
		{"DATABASE_URL=postgres://u:hunter2@db:5432/", "names no database after the host"},
		{"POSTRIDER_SECRET_KEY=hunter2!", "is neither base64 nor hex"},
		{"POSTRIDER_SECRET_KEY=aHVudGVyMg==", "has 7 bytes, need 32"},
		{"POSTRIDER_SMTP_URLS=smtp://a.example.com, b.example.com:25", "relay 2 does not begin with smtp://HOST or smtps://HOST"},
		{"POSTRIDER_SMTP_URLS=smtp://u:hun%ter2@a.example.com", "relay 1 is not a URL: are the special characters in user and password percent-encoded?"},
		{"POSTRIDER_LISTEN=8080", `is "8080", need host:port or :port`},
		{"POSTRIDER_LISTEN=:http", `is ":http", need a port from 1 to 65535 after the colon`},
		{"POSTRIDER_HEALTH_LISTEN=:0", `is ":0", need a port from 1 to 65535 after the colon`},
		{"POSTRIDER_INBOUND_LISTEN=:65536", `is ":65536", need a port from 1 to 65535 after the colon`},
		{"POSTRIDER_BOUNCE_HOST=Bounce.example.com", `is "Bounce.example.com", need a host name of two labels or more in lower case, as bounce.example.com`},
		{"POSTRIDER_BOUNCE_HOST=bounce.example.com.", `is "bounce.example.com.", need a host name of two labels or more in lower case, as bounce.example.com`},
		{"POSTRIDER_BOUNCE_HOST=bounce", `is "bounce", need a host name of two labels or more in lower case, as bounce.example.com`},
		{"POSTRIDER_BOUNCE_HOST=b_1.example.com", `is "b_1.example.com", need a host name of two labels or more in lower case, as bounce.example.com`},
		{"POSTRIDER_BOUNCE_HOST=192.0.2.1", "is the address 192.0.2.1, need the name of a host with an MX record, as bounce.example.com"},
		{"POSTRIDER_PUBLIC_URL=mail.example.com", `is "mail.example.com", need an http:// or https:// URL`},
		{"POSTRIDER_TEMPORAL_UI_URL=https://t.example.com?x=1", "has a user, a query or a fragment, need scheme, host and path only"},
		{"POSTRIDER_REQUIRE_VERIFIED_DOMAINS=no", `is "no", need true or false`},
		{"POSTRIDER_ALLOW_HTTP=on", `is "on", need true or false`},
		{"POSTRIDER_BLOCKED_ATTACHMENTS=exe,*.js", `has "*.js", need file name extensions such as exe, or none alone`},
		{"POSTRIDER_BLOCKED_ATTACHMENTS=exe,,js", `has "", need file name extensions such as exe, or none alone`},
		{"POSTRIDER_BLOCKED_ATTACHMENTS=exe,none", `has "none", need file name extensions such as exe, or none alone`},
		{"POSTRIDER_ALLOW_PRIVATE_CIDRS=10.0.0.5", `has "10.0.0.5", need a network as address/bits`},
		{"POSTRIDER_ALLOW_PRIVATE_CIDRS=10.0.0.5/8", `has "10.0.0.5/8", whose address has bits beyond /8; did you mean 10.0.0.0/8?`},
		{"POSTRIDER_MAX_MESSAGE_BYTES=25MB", `is "25MB", need a number of bytes above 0, without a unit`},
		{"POSTRIDER_MAX_MESSAGE_BYTES=0", `is "0", need a number of bytes above 0, without a unit`},
		{"POSTRIDER_MAX_RECIPIENTS=0", `is "0", need a number from 1 to 1000`},
		{"POSTRIDER_MAX_RECIPIENTS=1001", `is "1001", need a number from 1 to 1000`},
		{"POSTRIDER_MAX_RECIPIENTS=many", `is "many", need a number from 1 to 1000`},
		{"POSTRIDER_RETRY_SCHEDULE=1m,,5m", `has "", need a duration with its unit: s, m or h`},
		{"POSTRIDER_RETRY_SCHEDULE=0s", `has "0s", need 1s or more`},
		{"POSTRIDER_EXPIRE_AFTER=3d", `has "3d", need a duration with its unit: s, m or h`},
		{"POSTRIDER_EXPIRE_AFTER=0s", `has "0s", need more than 0s`},
		{"POSTRIDER_WEBHOOK_SCHEDULE=-5s", `has "-5s", need 0s or more`},
		{"POSTRIDER_DRAIN_TIMEOUT=120", `has "120", need a duration with its unit: s, m or h`},
		{"POSTRIDER_RECORDING_URL=https://r.internal/", "has no {id}"},
		{"POSTRIDER_RECORDING_URL=https://r.internal/{id}/{user}", "has {user}, need {id} and may have {customer_id} only"},
		{"POSTRIDER_RECORDING_URL=https://{id}.r.internal/", "has a placeholder in its host"},
		{"POSTRIDER_RECORDING_URL=ftp://r.internal/{id}", "is not an http:// or https:// URL"},
		{"POSTRIDER_LOG_LEVEL=verbose", `is "verbose", need debug, info, warn or error`},
		{"POSTRIDER_INBOUND_MAX_CONNECTIONS=0", `is "0", need a number from 1 to 65535`},
		{"POSTRIDER_INBOUND_MAX_RECIPIENTS=99", `is "99", need 100 or more`},
		{"POSTRIDER_REQUEST_SPOOL_DIR=spool", `is "spool", need a path that begins with /`},
		{"POSTRIDER_INBOUND_SPOOL_DIR=spool", `is "spool", need a path that begins with /`},
		{"POSTRIDER_DEV_POSTGRES_PORT=65536", `is "65536", need a port from 0 to 65535`},
		{"POSTRIDER_DEV_TEMPORAL_PORT=-1", `is "-1", need a port from 0 to 65535`},
		{"POSTRIDER_DEV_TEMPORAL_UI_PORT=x", `is "x", need a port from 0 to 65535`},
	} {
		t.Run(tt.variable, func(t *testing.T) {
			t.Parallel()
			name, _, _ := strings.Cut(tt.variable, "=")
			_, err := Load(complete(tt.variable), ServeWorker, Checks{})
			p := problems(t, err)
			require.Len(t, p, 1, "only this is wrong: %v", err)
			require.Equal(t, Problem{Name: name, Wrong: tt.want, Example: find(name).Example}, p[0])
			require.NotContains(t, err.Error(), "hunter2")
			require.NotContains(t, err.Error(), "hun%ter2")
		})
	}
}

func TestLoadReportsAllProblems(t *testing.T) {
	t.Parallel()
	_, err := Load([]string{
		"POSTRIDER_RECORDING_TOKEN=t", "POSTRIDER_DRAIN_TIMEOUT=2 minutes", "POSTRIDER_SMPT_URLS=smtp://x",
		"POSTRIDER_SMTP_URLS=smtp://a.example.com smtp://b.example.com?tsl=none", "POSTRIDER_LISTEN=nowhere", "DATABASE_URL=" + testDatabase,
	}, ServeWorker, Checks{Relay: func(raw string) error {
		if strings.Contains(raw, "tsl=") {
			return errors.New("tsl is not an option")
		}
		return nil
	}})
	require.EqualError(t, err, `6 settings are wrong:
  POSTRIDER_SMTP_URLS relay 2 (smtp://b.example.com?tsl=none): tsl is not an option; example: `+find("POSTRIDER_SMTP_URLS").Example+`
  POSTRIDER_SECRET_KEY is not set: `+strings.TrimSuffix(find("POSTRIDER_SECRET_KEY").Description, ".")+`; example: the output of: openssl rand -base64 32
  POSTRIDER_LISTEN is "nowhere", need host:port or :port; example: 127.0.0.1:8080
  POSTRIDER_DRAIN_TIMEOUT has "2 minutes", need a duration with its unit: s, m or h; example: 2m
  POSTRIDER_RECORDING_URL is not set, but POSTRIDER_RECORDING_TOKEN is; example: https://recordings.internal/v1/{customer_id}/{id}
  POSTRIDER_SMPT_URLS is not a setting; did you mean POSTRIDER_SMTP_URLS?`)
}

func TestLoadRelayCheckLeaksNoPassword(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"s3cret", "p%40ss%2Fword", "a,b"} {
		raw := "smtp://token-as-user:" + password + "@relay.example.com?max=x"
		_, err := Load(append(complete(), "POSTRIDER_SMTP_URLS="+raw), Worker, Checks{Relay: func(got string) error {
			require.Equal(t, raw, got)
			return errors.New("careless: " + got + ", s3cret p@ss/word p%40ss%2Fword a,b")
		}})
		require.Contains(t, problems(t, err)[0].Wrong, "relay 1 (smtp://xxxxx@relay.example.com?max=x): careless: [redacted], ")
		decoded := strings.NewReplacer("%40", "@", "%2F", "/").Replace(password)
		require.NotContains(t, err.Error(), password)
		require.NotContains(t, err.Error(), decoded)
		require.NotContains(t, err.Error(), "token-as-user")
	}
}

func TestLoadUnknownVariables(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"POSTRIDER_SMPT_URLS":        "; did you mean POSTRIDER_SMTP_URLS?",
		"POSTRIDER_SMTP_URL":         "; did you mean POSTRIDER_SMTP_URLS?",
		"POSTRIDER_LOGLEVEL":         "; did you mean POSTRIDER_LOG_LEVEL?",
		"POSTRIDER_ALLOW_HTTPS":      "; did you mean POSTRIDER_ALLOW_HTTP?",
		"POSTRIDER_DEV_POSTGRE_PORT": "; did you mean POSTRIDER_DEV_POSTGRES_PORT?",
		"POSTRIDER_DATABASE_URL":     "; did you mean DATABASE_URL?",
		"POSTRIDER_ACESSKEY":         "; did you mean POSTRIDER_ACCESSKEY?",
		"POSTRIDER_TEMPORAL_ADDRESS": "; did you mean TEMPORAL_ADDRESS?",
		"POSTRIDER_COLOUR":           "",
		"POSTRIDER_PORT":             "",
		"POSTRIDER_":                 "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(complete(name+"=x"), Serve, Checks{})
			require.Equal(t, Problems{{Name: name, Wrong: "is not a setting" + want}}, problems(t, err))
			require.Equal(t, err, CheckNames([]string{name + "=x", "POSTRIDER_LISTEN=nonsense"}), "names alone")
		})
	}
	t.Run("what dev.env, tests and Kubernetes set is let be", func(t *testing.T) {
		t.Parallel()
		_, err := Load(complete(
			"POSTRIDER_URL=x", "POSTRIDER_ACCESSKEY=x", "POSTRIDER_USERNAME=x", "POSTRIDER_PASSWORD=x", "POSTRIDER_FROM=x",
			"POSTRIDER_CUSTOMER_ID=x", "POSTRIDER_MAILBOX_ID=x", "POSTRIDER_WEBHOOK_SECRET=x", "POSTRIDER_TEST_ANYTHING=x",
			"POSTRIDER_SERVICE_HOST=10.0.0.1", "POSTRIDER_SERVICE_PORT=8080", "POSTRIDER_SERVICE_PORT_HTTP=8080",
			"POSTRIDER_PORT=tcp://10.0.0.1:8080", "POSTRIDER_PORT_8080_TCP=tcp://10.0.0.1:8080",
			"POSTRIDER_API_PORT_8080_TCP_ADDR=10.0.0.1", "POSTRIDERS=x",
		), Serve, Checks{})
		require.NoError(t, err)
		require.NoError(t, CheckNames([]string{"POSTRIDER_URL=x", "PATH=x"}))
	})
}

func TestRelayURLsSeparators(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"smtp://a":                                    {"smtp://a"},
		"smtp://a smtps://b":                          {"smtp://a", "smtps://b"},
		"smtp://a,smtps://b,":                         {"smtp://a", "smtps://b"},
		"smtp://a, smtp://b":                          {"smtp://a", "smtp://b"},
		"\n smtp://a\n\tsmtp://b\n":                   {"smtp://a", "smtp://b"},
		"smtp://u:p,w@a?domains=x.com,y.com,smtp://b": {"smtp://u:p,w@a?domains=x.com,y.com", "smtp://b"},
		" , ": nil,
	} {
		var got RelayURLs
		require.NoError(t, got.UnmarshalText([]byte(text)))
		require.Equal(t, RelayURLs(want), got, text)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	want := mustKey(t).Bytes()
	for _, text := range []string{testKey, strings.TrimRight(testKey, "="), hex.EncodeToString(want), strings.ToUpper(hex.EncodeToString(want))} {
		key, err := ParseKey(text)
		require.NoError(t, err, text)
		require.Equal(t, want, key.Bytes())
	}
	for _, text := range []string{"____________________________________________", "////////////////////////////////////////////"} {
		_, err := ParseKey(text) // 44 letters are 33 bytes
		require.EqualError(t, err, "has 33 bytes, need 32")
	}
	key, err := ParseKey("__________________________________________8=") // the URL alphabet
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("\xff", 32), string(key.Bytes()))
	key.Bytes()[0] = 0
	require.Equal(t, byte(0xff), key.Bytes()[0], "the key cannot be changed through what Bytes returns")
}

func mustKey(t *testing.T) Key {
	t.Helper()
	key, err := ParseKey(testKey)
	require.NoError(t, err)
	require.Equal(t, byte(31), key.Bytes()[31])
	return key
}

func TestPayloadKeys(t *testing.T) {
	t.Parallel()
	cfg, err := Load(complete("POSTRIDER_PAYLOAD_KEYS=2026-02:"+testKey+", old:"+strings.Repeat("ab", 32)), Serve, Checks{})
	require.NoError(t, err)
	require.Len(t, cfg.PayloadKeys, 2)
	require.Equal(t, "2026-02", cfg.PayloadKeys[0].ID)
	require.Equal(t, mustKey(t).Bytes(), cfg.PayloadKeys[0].Bytes())
	require.Equal(t, bytes.Repeat([]byte{0xab}, 32), cfg.PayloadKeys[1].Bytes())
	require.Contains(t, cfg.Lines(), "POSTRIDER_PAYLOAD_KEYS=2026-02,old")
	for value, want := range map[string]string{
		testKey: "has no id before key 1", "a:" + testKey + ",:" + testKey: "has no id before key 2", "a:" + testKey + " a:" + testKey: "has two keys called a",
		"a:abc": "key a has 2 bytes", "a b:" + testKey: "has no id",
	} {
		_, err := Load(complete("POSTRIDER_PAYLOAD_KEYS="+value), Serve, Checks{})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), testKey)
	}
	for _, wrong := range []string{"POSTRIDER_CODEC_TOKEN=0123456789abcdef", "POSTRIDER_BUILD_ID=v1"} {
		_, err := Load(complete(wrong), ServeWorker, Checks{})
		require.ErrorContains(t, err, "is not set, but "+wrong[:strings.Index(wrong, "=")]+" is")
	}
	_, err = Load(complete("POSTRIDER_CODEC_TOKEN=short", "POSTRIDER_DEPLOYMENT=a.b", "POSTRIDER_BUILD_ID=a:b"), ServeWorker, Checks{})
	require.Len(t, problems(t, err), 3)
	require.NotContains(t, err.Error(), "short,")
}
