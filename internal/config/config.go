// Package config turns the environment into typed settings, and reports all that
// is wrong with it at once.
//
//  1. settings.go has the table: name, default, who uses it, what it means. The
//     structs, the documentation and the lines printed at start follow it, and
//     tests hold them together.
//  2. An empty variable is as good as one that is not set: the default applies.
//  3. A value that makes no sense is a problem for every command, also for those
//     that do not use it; a missing one only for those that cannot do without.
//  4. A POSTRIDER_ variable that is not a setting is a problem: a misspelt name
//     would otherwise leave a default in force that nobody wanted.
//  5. A secret may stand in a file: NAME_FILE names it instead of NAME.
//  6. Passwords and keys that are published in the repository are refused outside dev.
//  7. No value of a secret gets into an error, a log or a print.
//
// It imports nothing of this module and is imported by cmd only.
package config

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Use is the command the settings are loaded for.
type Use uint8

const (
	// Serve is `postrider serve`.
	Serve Use = 1 << iota
	// Worker is `postrider worker`.
	Worker
	// ServeWorker is `postrider serve --worker`.
	ServeWorker
	// DevUse is `postrider dev`.
	DevUse
	// Tool is a command that does one thing in the store: customer, user, key, domain.
	Tool
	// Migrate is `postrider migrate`. It opens no secret, so it needs no key.
	Migrate
)

// Config is every setting. The env tags name the variables; see Settings for
// their defaults and meaning.
type Config struct {
	// DatabaseURL is empty in dev if a private Postgres is to be started.
	DatabaseURL Secret `env:"DATABASE_URL"`
	// SecretKey is empty in dev if dev is to make one, and in migrate.
	SecretKey Key `env:"POSTRIDER_SECRET_KEY"`
	// OldSecretKey opens what was sealed before SecretKey was the key. Empty: there is
	// no such key.
	OldSecretKey Key `env:"POSTRIDER_SECRET_KEY_OLD"`
	// AllowPublishedSecrets lets the process start with a key or password that is
	// written in the repository.
	AllowPublishedSecrets bool `env:"POSTRIDER_ALLOW_PUBLISHED_SECRETS"`
	// MetricsToken guards /metrics; empty means that only loopback
	// addresses read it.
	MetricsToken Secret `env:"POSTRIDER_METRICS_TOKEN"`
	// SMTPURLs are the relays, in the order they are tried. The first bytes of
	// each are smtp:// or smtps://, and Checks.Relay took it.
	SMTPURLs RelayURLs `env:"POSTRIDER_SMTP_URLS"`

	// PayloadKeys encrypt what goes into histories. Empty: nothing does.
	PayloadKeys PayloadKeys `env:"POSTRIDER_PAYLOAD_KEYS"`
	// CodecToken is what the codec endpoint asks for. Empty: there is none, except in
	// dev.
	CodecToken Secret `env:"POSTRIDER_CODEC_TOKEN"`

	// Deployment is the name under which workers are versioned. Empty: they are not.
	Deployment string `env:"POSTRIDER_DEPLOYMENT"`
	// BuildID is the workers' version. Empty means the binary's.
	BuildID string `env:"POSTRIDER_BUILD_ID"`

	Listen string `env:"POSTRIDER_LISTEN"`
	// HealthListen is where a worker without an API answers probes.
	HealthListen string `env:"POSTRIDER_HEALTH_LISTEN"`
	// InboundListen is empty if no mail is taken in.
	InboundListen string `env:"POSTRIDER_INBOUND_LISTEN"`
	// PprofListen is empty if there is no profiler.
	PprofListen string `env:"POSTRIDER_PPROF_LISTEN"`
	// PublicURL and TemporalUIURL have no slash at the end. Empty means unknown.
	PublicURL     string `env:"POSTRIDER_PUBLIC_URL"`
	TemporalUIURL string `env:"POSTRIDER_TEMPORAL_UI_URL"`

	RequireVerifiedDomains bool           `env:"POSTRIDER_REQUIRE_VERIFIED_DOMAINS"`
	AllowRelayHeaders      bool           `env:"POSTRIDER_ALLOW_RELAY_HEADERS"`
	AllowHTTP              bool           `env:"POSTRIDER_ALLOW_HTTP"`
	AllowPrivateCIDRs      []netip.Prefix `env:"POSTRIDER_ALLOW_PRIVATE_CIDRS"`
	// AttachmentNetworks are private networks that one customer's attachment URLs may reach.
	AttachmentNetworks []CustomerNetwork `env:"POSTRIDER_ATTACHMENT_CIDRS"`
	// MaxMessageBytes bounds text, HTML and decoded attachments together.
	MaxMessageBytes int64 `env:"POSTRIDER_MAX_MESSAGE_BYTES"`
	// MaxRecipients bounds what to, cc and bcc of a message list together.
	MaxRecipients Count `env:"POSTRIDER_MAX_RECIPIENTS"`
	// RequestRate is how many requests a second one credential may make; 0 is any number.
	RequestRate int `env:"POSTRIDER_REQUEST_RATE"`
	// CustomerRequestRate is the same for all credentials of a customer together.
	CustomerRequestRate int `env:"POSTRIDER_CUSTOMER_REQUEST_RATE"`
	// RequestMemoryBytes bounds what requests and answers hold together; 0 is what suits
	// the memory of the process.
	RequestMemoryBytes int64 `env:"POSTRIDER_REQUEST_MEMORY_BYTES"`
	// RequestSpoolDir has the files of large requests, of RequestSpoolBytes together; empty
	// is the system's.
	RequestSpoolDir   string `env:"POSTRIDER_REQUEST_SPOOL_DIR"`
	RequestSpoolBytes int64  `env:"POSTRIDER_REQUEST_SPOOL_BYTES"`
	// RecipientRates are how many recipients a domain may have in a time. Each domain is
	// there once.
	RecipientRates []RecipientRate `env:"POSTRIDER_RECIPIENT_RATES"`
	// MaxConnectionsPerIP is how many connections one client may have to a port; 0 is any
	// number.
	MaxConnectionsPerIP int `env:"POSTRIDER_MAX_CONNECTIONS_PER_IP"`
	// TrustedProxies are those whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix `env:"POSTRIDER_TRUSTED_PROXIES"`
	// BlockedAttachments are extensions in lower case, without a dot. Nil means
	// the built-in list, empty none.
	BlockedAttachments []string `env:"POSTRIDER_BLOCKED_ATTACHMENTS"`

	// The limits of the SMTP server for mailboxes; see inbound.Config. InboundMemoryBytes is 0
	// for what suits the memory of the process.
	InboundMaxMessageBytes     int64         `env:"POSTRIDER_INBOUND_MAX_MESSAGE_BYTES"`
	InboundMemoryBytes         int64         `env:"POSTRIDER_INBOUND_MEMORY_BYTES"`
	InboundSpoolDir            string        `env:"POSTRIDER_INBOUND_SPOOL_DIR"`
	InboundSpoolBytes          int64         `env:"POSTRIDER_INBOUND_SPOOL_BYTES"`
	InboundMaxConnections      Count         `env:"POSTRIDER_INBOUND_MAX_CONNECTIONS"`
	InboundMaxConnectionsPerIP Count         `env:"POSTRIDER_INBOUND_MAX_CONNECTIONS_PER_IP"`
	InboundMaxRecipients       Count         `env:"POSTRIDER_INBOUND_MAX_RECIPIENTS"`
	InboundMaxErrors           Count         `env:"POSTRIDER_INBOUND_MAX_ERRORS"`
	InboundMailTimeout         time.Duration `env:"POSTRIDER_INBOUND_MAIL_TIMEOUT"`
	InboundReadTimeout         time.Duration `env:"POSTRIDER_INBOUND_READ_TIMEOUT"`
	InboundSessionTimeout      time.Duration `env:"POSTRIDER_INBOUND_SESSION_TIMEOUT"`

	// RetrySchedule are the waits after the first, second, … attempt; the last
	// one repeats until ExpireAfter. Never empty.
	RetrySchedule []time.Duration `env:"POSTRIDER_RETRY_SCHEDULE"`
	ExpireAfter   time.Duration   `env:"POSTRIDER_EXPIRE_AFTER"`
	// WebhookSchedule are the waits before the first, second, … attempt; after
	// the last one there is none. Never empty.
	WebhookSchedule []time.Duration `env:"POSTRIDER_WEBHOOK_SCHEDULE"`
	DrainTimeout    time.Duration   `env:"POSTRIDER_DRAIN_TIMEOUT"`
	// RelayProbeInterval is how often a relay without mail is probed; 0 is never.
	RelayProbeInterval Interval `env:"POSTRIDER_RELAY_PROBE_INTERVAL"`

	// RecordingURL has {id} and may have {customer_id}. Empty: no recordings.
	RecordingURL   string `env:"POSTRIDER_RECORDING_URL"`
	RecordingToken Secret `env:"POSTRIDER_RECORDING_TOKEN"`

	LogLevel slog.Level `env:"POSTRIDER_LOG_LEVEL"`

	// DevDir is where dev keeps its servers' data and the key.
	DevDir string `env:"POSTRIDER_DEV_DIR"`
	// The ports of dev's servers on 127.0.0.1. 0 is a free one at each start.
	DevPostgresPort   int `env:"POSTRIDER_DEV_POSTGRES_PORT"`
	DevTemporalPort   int `env:"POSTRIDER_DEV_TEMPORAL_PORT"`
	DevTemporalUIPort int `env:"POSTRIDER_DEV_TEMPORAL_UI_PORT"`

	// Dev is true for `postrider dev`. Not a setting, nor is what follows from it.
	Dev bool
	// AllowLoopback lets webhooks and attachment URLs name this machine: in dev only.
	AllowLoopback bool

	use Use
}

// Count is how many of something there may be, 1 to 65535.
type Count int

// CustomerNetwork is a private network that is opened to one customer, by id.
type CustomerNetwork struct {
	CustomerID string
	Network    netip.Prefix
}

// RecipientRate is the rate of a recipients' domain, in lower case; "*" is each of those
// that are not named.
type RecipientRate struct {
	Domain string
	// Rate is as it was written, as 20/s; Pace is the time from one recipient to the next.
	Rate string
	Pace time.Duration
}

// Interval is a time between two of something; 0 is never, else it is a second or more.
type Interval time.Duration

// Checks are what other packages know about values.
type Checks struct {
	// Relay says what is wrong with a relay's URL. Its error must not hold the
	// user or the password. Nil means only that it is a URL is checked.
	Relay func(raw string) error
}

// Load reads the settings for a command from an environment as os.Environ returns
// it. Its error is Problems.
func Load(environ []string, use Use, checks Checks) (Config, error) {
	env := environment(environ)
	problems := unknown(env)
	unread := fromFiles(env)
	values := map[string]string{}
	for _, s := range settings {
		values[s.Name] = strings.TrimSpace(env[s.Name])
		if values[s.Name] == "" {
			values[s.Name] = s.defaultFor(use)
		}
		if problem, ok := unread[s.Name]; ok {
			problems = append(problems, problem)
		} else if values[s.Name] == "" && s.Required&use != 0 {
			problems = append(problems, s.problem("is not set: "+s.Description))
		}
	}
	cfg := Config{use: use, Dev: use == DevUse, AllowLoopback: use == DevUse}
	wrong, err := parse(&cfg, values)
	if err != nil {
		return Config{}, err
	}
	problems = append(problems, wrong...)
	problems = append(problems, cfg.checkRelays(checks.Relay)...)
	problems = append(problems, cfg.checkPublished()...)
	if cfg.RecordingToken.Reveal() != "" && values["POSTRIDER_RECORDING_URL"] == "" {
		problems = append(problems, find("POSTRIDER_RECORDING_URL").problem("is not set, but POSTRIDER_RECORDING_TOKEN is"))
	}
	if cfg.CodecToken.Reveal() != "" && values["POSTRIDER_PAYLOAD_KEYS"] == "" {
		problems = append(problems, find("POSTRIDER_PAYLOAD_KEYS").problem("is not set, but POSTRIDER_CODEC_TOKEN is"))
	}
	if cfg.BuildID != "" && values["POSTRIDER_DEPLOYMENT"] == "" {
		problems = append(problems, find("POSTRIDER_DEPLOYMENT").problem("is not set, but POSTRIDER_BUILD_ID is"))
	}
	if len(problems) > 0 {
		return Config{}, problems.sorted()
	}
	if cfg.Dev && len(cfg.SMTPURLs) == 0 {
		cfg.SMTPURLs = RelayURLs{inboxRelay(cfg.InboundListen)}
	}
	return cfg, nil
}

// environment is the last value of each variable.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	return env
}

// inboxRelay is the relay that delivers into dev's own inbox, which is its
// recipients' server.
func inboxRelay(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return "smtp://" + net.JoinHostPort(host, port) + "?name=inbox&tls=none&accepts=final"
}
