package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// secrets are the values that no print of complete and the two variables below may contain.
var secrets = []string{"hunter2", "s3cret", testKey, "t0ken", "000102030405", "[0 1 2 3"}

func requireNoSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range secrets {
		require.NotContains(t, text, secret)
	}
}

func loaded(t *testing.T, use Use) Config {
	t.Helper()
	cfg, err := Load(complete("POSTRIDER_RECORDING_TOKEN=t0ken", "POSTRIDER_RECORDING_URL=https://rec.internal/{id}", "POSTRIDER_PAYLOAD_KEYS=new:"+testKey+",old:"+testKey), use, Checks{})
	require.NoError(t, err)
	return cfg
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	cfg := loaded(t, ServeWorker)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		for _, value := range []any{cfg, &cfg, cfg.DatabaseURL, cfg.SecretKey, cfg.RecordingToken, cfg.SMTPURLs, cfg.PayloadKeys, cfg.PayloadKeys[0], &cfg.PayloadKeys[0],
			&cfg.DatabaseURL, []any{cfg.SecretKey}, map[string]any{"k": cfg.RecordingToken}} {
			requireNoSecret(t, fmt.Sprintf(verb, value))
		}
	}
	// fmt calls no methods on what is unexported, nor for %p and %w.
	cfg.SMTPURLs = nil // the only one that is not behind a pointer
	type outer struct{ cfg Config }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%w", "%p"} {
		for _, value := range []any{cfg, outer{cfg}, &outer{cfg}} {
			requireNoSecret(t, fmt.Sprintf(verb, value))
		}
	}
	cfg = loaded(t, ServeWorker)
	require.Equal(t, "[redacted]", fmt.Sprint(cfg.DatabaseURL))
	require.Equal(t, "[redacted]", fmt.Sprintf("%x", cfg.SecretKey))

	text, err := json.Marshal(cfg)
	require.NoError(t, err)
	requireNoSecret(t, string(text))
	require.Contains(t, string(text), `"DatabaseURL":"[redacted]"`)

	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).Info("x", "cfg", cfg, "a", cfg.DatabaseURL, "b", cfg.SecretKey, "c", cfg.SMTPURLs, "d", &cfg)
	}
	requireNoSecret(t, log.String())
	require.Contains(t, log.String(), `"a":"[redacted]","b":"[redacted]"`)
}

func TestLines(t *testing.T) {
	t.Parallel()
	t.Run("every setting of the command, secrets masked", func(t *testing.T) {
		t.Parallel()
		lines := loaded(t, ServeWorker).Lines()
		requireNoSecret(t, strings.Join(lines, "\n"))
		require.Equal(t, []string{
			"DATABASE_URL=postgres://postrider:xxxxx@db.internal:5432/postrider",
			"POSTRIDER_SMTP_URLS=smtp://xxxxx@relay.example.com:587?name=primary&tls=starttls&accepts=relay",
			"POSTRIDER_SECRET_KEY=set",
			"POSTRIDER_SECRET_KEY_OLD=not set",
			"POSTRIDER_ALLOW_PUBLISHED_SECRETS=false",
			"POSTRIDER_LISTEN=:8080",
			"POSTRIDER_INBOUND_LISTEN=not set",
			"POSTRIDER_PUBLIC_URL=not set",
			"POSTRIDER_METRICS_TOKEN=not set",
			"POSTRIDER_PPROF_LISTEN=not set",
			"POSTRIDER_TEMPORAL_UI_URL=not set",
			"POSTRIDER_PAYLOAD_KEYS=new,old", "POSTRIDER_CODEC_TOKEN=not set", "POSTRIDER_DEPLOYMENT=not set", "POSTRIDER_BUILD_ID=not set",
			"POSTRIDER_REQUIRE_VERIFIED_DOMAINS=true",
			"POSTRIDER_MAX_MESSAGE_BYTES=26214400", "POSTRIDER_MAX_RECIPIENTS=50",
			"POSTRIDER_BLOCKED_ATTACHMENTS=not set",
			"POSTRIDER_ALLOW_RELAY_HEADERS=false", "POSTRIDER_ALLOW_HTTP=false",
			"POSTRIDER_ALLOW_PRIVATE_CIDRS=not set", "POSTRIDER_ATTACHMENT_CIDRS=not set",
			"POSTRIDER_REQUEST_RATE=500", "POSTRIDER_CUSTOMER_REQUEST_RATE=1000", "POSTRIDER_REQUEST_MEMORY_BYTES=0", "POSTRIDER_REQUEST_SPOOL_DIR=not set", "POSTRIDER_REQUEST_SPOOL_BYTES=1073741824", "POSTRIDER_MAX_CONNECTIONS_PER_IP=256", "POSTRIDER_RECIPIENT_RATES=not set",
			"POSTRIDER_TRUSTED_PROXIES=not set",
			"POSTRIDER_INBOUND_MAX_MESSAGE_BYTES=52428800", "POSTRIDER_INBOUND_MEMORY_BYTES=0", "POSTRIDER_INBOUND_SPOOL_DIR=not set", "POSTRIDER_INBOUND_SPOOL_BYTES=1073741824",
			"POSTRIDER_INBOUND_MAX_CONNECTIONS=200", "POSTRIDER_INBOUND_MAX_CONNECTIONS_PER_IP=50",
			"POSTRIDER_INBOUND_MAX_RECIPIENTS=1000", "POSTRIDER_INBOUND_MAX_ERRORS=100",
			"POSTRIDER_INBOUND_MAIL_TIMEOUT=1m", "POSTRIDER_INBOUND_READ_TIMEOUT=5m", "POSTRIDER_INBOUND_SESSION_TIMEOUT=1h",
			"POSTRIDER_RETRY_SCHEDULE=1m,5m,15m,30m,1h,2h,4h,8h,12h",
			"POSTRIDER_EXPIRE_AFTER=72h",
			"POSTRIDER_WEBHOOK_SCHEDULE=0s,5s,5m,30m,2h,5h,10h,14h,20h,24h",
			"POSTRIDER_DRAIN_TIMEOUT=2m",
			"POSTRIDER_RELAY_PROBE_INTERVAL=1m",
			"POSTRIDER_BOUNCE_HOST=not set",
			"POSTRIDER_DNS_SERVERS=not set", "POSTRIDER_REPUTATION_PAUSE=false",
			"POSTRIDER_RECORDING_URL=https://rec.internal/{id}",
			"POSTRIDER_RECORDING_TOKEN=set",
			"POSTRIDER_LOG_LEVEL=info",
		}, lines)
	})
	t.Run("what dev fills in later is shown", func(t *testing.T) {
		t.Parallel()
		cfg, err := Load(nil, DevUse, Checks{})
		require.NoError(t, err)
		require.Contains(t, cfg.Lines(), "DATABASE_URL=not set")
		require.Contains(t, cfg.Lines(), "POSTRIDER_SECRET_KEY=not set")
		require.Contains(t, cfg.Lines(), "POSTRIDER_DEV_POSTGRES_PORT=15432")
		cfg.DatabaseURL, cfg.SecretKey = NewSecret("postgres://a:hunter2@b/c?password=hunter2"), mustKey(t)
		require.Contains(t, cfg.Lines(), "DATABASE_URL=postgres://a:xxxxx@b/c?password=xxxxx")
		require.Contains(t, cfg.Lines(), "POSTRIDER_SECRET_KEY=set")
	})
	t.Run("what another command uses is not", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, []string{"DATABASE_URL", "POSTRIDER_ALLOW_PUBLISHED_SECRETS", "POSTRIDER_LOG_LEVEL"}, names(loaded(t, Migrate).Lines()))
		require.Contains(t, names(loaded(t, Worker).Lines()), "POSTRIDER_HEALTH_LISTEN")
		require.NotContains(t, names(loaded(t, Worker).Lines()), "POSTRIDER_LISTEN")
	})
}

func names(lines []string) []string {
	var out []string
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		out = append(out, name)
	}
	return out
}

func TestLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cfg := loaded(t, ServeWorker)
	cfg.Log(slog.New(slog.NewJSONHandler(&out, nil)))
	requireNoSecret(t, out.String())
	var line map[string]string
	require.NoError(t, json.Unmarshal(out.Bytes(), &line), "one line")
	require.Equal(t, "config.loaded", line["msg"])
	for _, want := range cfg.Lines() {
		name, value, _ := strings.Cut(want, "=")
		require.Equal(t, value, line[name])
	}
}
