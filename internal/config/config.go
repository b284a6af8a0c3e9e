// Package config reads the settings from the environment, and reports all problems at once.
//
//  1. settings.go has the table: name, default, commands that use it, meaning. The structs,
//     the documentation and the lines printed at start follow it; tests compare them.
//  2. An empty variable is the same as an unset one: the default applies.
//  3. An invalid value is a problem for every command, also for those that do not use it. A
//     missing value is a problem only for the commands that require it.
//  4. A POSTRIDER_ variable that is not a setting is a problem: with a misspelt name, the
//     default would apply unnoticed.
//  5. A secret may be in a file: NAME_FILE has the path, instead of NAME the value.
//  6. Passwords and keys that are published in the repository are refused outside dev.
//  7. No error, log line or print has the value of a secret.
//
// It imports nothing of this module.
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
	// Tool is a command that changes or reads the database and ends, such as customer, user,
	// key and domain.
	Tool
	// Migrate is `postrider migrate`. It decrypts no secret, so it needs no key.
	Migrate
)

// Config has all settings. The env tags name the variables; Settings has their defaults and
// meaning.
type Config struct {
	// DatabaseURL is empty in dev if a private Postgres is to be started.
	DatabaseURL Secret `env:"DATABASE_URL"`
	// SecretKey is empty in dev if dev is to make one, and in migrate.
	SecretKey Key `env:"POSTRIDER_SECRET_KEY"`
	// OldSecretKey is the key before SecretKey, while it is being replaced: secrets that are
	// encrypted with it can be decrypted. Empty: there is none.
	OldSecretKey Key `env:"POSTRIDER_SECRET_KEY_OLD"`
	// AllowPublishedSecrets lets the process start with a key or password that is
	// written in the repository.
	AllowPublishedSecrets bool `env:"POSTRIDER_ALLOW_PUBLISHED_SECRETS"`
	// MetricsToken guards /metrics; empty means that only loopback
	// addresses read it.
	MetricsToken Secret `env:"POSTRIDER_METRICS_TOKEN"`
	// SMTPURLs are the relays, in the order they are tried. Each begins with smtp:// or
	// smtps://, and has passed Checks.Relay.
	SMTPURLs RelayURLs `env:"POSTRIDER_SMTP_URLS"`

	// PayloadKeys encrypt the payloads of workflow histories. Empty: they are not encrypted.
	PayloadKeys PayloadKeys `env:"POSTRIDER_PAYLOAD_KEYS"`
	// CodecToken is the credential of the codec endpoint. Empty: there is no such endpoint,
	// except in dev.
	CodecToken Secret `env:"POSTRIDER_CODEC_TOKEN"`

	// Deployment is the name under which workers are versioned. Empty: they are not.
	Deployment string `env:"POSTRIDER_DEPLOYMENT"`
	// BuildID is the workers' version. Empty means the binary's.
	BuildID string `env:"POSTRIDER_BUILD_ID"`

	Listen string `env:"POSTRIDER_LISTEN"`
	// HealthListen is the address on which a worker without an API answers probes.
	HealthListen string `env:"POSTRIDER_HEALTH_LISTEN"`
	// InboundListen is empty if no mail is received.
	InboundListen string `env:"POSTRIDER_INBOUND_LISTEN"`
	// PprofListen is empty if there is no profiler.
	PprofListen string `env:"POSTRIDER_PPROF_LISTEN"`
	// PublicURL and TemporalUIURL have no trailing slash. Empty means unknown.
	PublicURL     string `env:"POSTRIDER_PUBLIC_URL"`
	TemporalUIURL string `env:"POSTRIDER_TEMPORAL_UI_URL"`

	// ReputationPause pauses the broadcast stream of a sender domain whose reputation is critical.
	ReputationPause        bool           `env:"POSTRIDER_REPUTATION_PAUSE"`
	RequireVerifiedDomains bool           `env:"POSTRIDER_REQUIRE_VERIFIED_DOMAINS"`
	AllowRelayHeaders      bool           `env:"POSTRIDER_ALLOW_RELAY_HEADERS"`
	AllowHTTP              bool           `env:"POSTRIDER_ALLOW_HTTP"`
	AllowPrivateCIDRs      []netip.Prefix `env:"POSTRIDER_ALLOW_PRIVATE_CIDRS"`
	// AttachmentNetworks are private networks that a customer's attachment URLs may reach.
	AttachmentNetworks []CustomerNetwork `env:"POSTRIDER_ATTACHMENT_CIDRS"`
	// MaxMessageBytes bounds text, HTML and decoded attachments together.
	MaxMessageBytes int64 `env:"POSTRIDER_MAX_MESSAGE_BYTES"`
	// MaxRecipients bounds the addresses in to, cc and bcc of a message together.
	MaxRecipients Count `env:"POSTRIDER_MAX_RECIPIENTS"`
	// RequestRate is how many requests per second one credential may make; 0 is any number.
	RequestRate int `env:"POSTRIDER_REQUEST_RATE"`
	// CustomerRequestRate is how many requests per second all credentials of a customer may
	// make together; 0 is any number.
	CustomerRequestRate int `env:"POSTRIDER_CUSTOMER_REQUEST_RATE"`
	// RequestMemoryBytes bounds the memory of requests and answers together; 0 means that it
	// depends on the memory of the process.
	RequestMemoryBytes int64 `env:"POSTRIDER_REQUEST_MEMORY_BYTES"`
	// RequestSpoolDir is the directory for the files of large requests, at most
	// RequestSpoolBytes together. Empty is the system's directory for temporary files.
	RequestSpoolDir   string `env:"POSTRIDER_REQUEST_SPOOL_DIR"`
	RequestSpoolBytes int64  `env:"POSTRIDER_REQUEST_SPOOL_BYTES"`
	// RecipientRates bound the recipients of a domain per time. Each domain is in it once.
	RecipientRates []RecipientRate `env:"POSTRIDER_RECIPIENT_RATES"`
	// BounceHost is the host of return paths. Empty: senders' addresses are the return paths.
	BounceHost string `env:"POSTRIDER_BOUNCE_HOST"`
	// DNSServers are recursive servers as host:port. Empty means those of the machine.
	DNSServers DNSServers `env:"POSTRIDER_DNS_SERVERS"`
	// MaxConnectionsPerIP is how many connections one client may have to a port; 0 is any
	// number.
	MaxConnectionsPerIP int `env:"POSTRIDER_MAX_CONNECTIONS_PER_IP"`
	// TrustedProxies are the networks of proxies whose X-Forwarded-For is used.
	TrustedProxies []netip.Prefix `env:"POSTRIDER_TRUSTED_PROXIES"`
	// BlockedAttachments are extensions in lower case, without a dot. Nil means the built-in
	// list, empty means none.
	BlockedAttachments []string `env:"POSTRIDER_BLOCKED_ATTACHMENTS"`

	// The limits of the SMTP server for mailboxes; see inbound.Config. InboundMemoryBytes is 0
	// if it depends on the memory of the process.
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

	// RetrySchedule are the waits after the first, second, … attempt. The last one repeats
	// until ExpireAfter. Never empty.
	RetrySchedule []time.Duration `env:"POSTRIDER_RETRY_SCHEDULE"`
	ExpireAfter   time.Duration   `env:"POSTRIDER_EXPIRE_AFTER"`
	// WebhookSchedule are the waits before the first, second, … attempt. It has one wait per
	// attempt. Never empty.
	WebhookSchedule []time.Duration `env:"POSTRIDER_WEBHOOK_SCHEDULE"`
	DrainTimeout    time.Duration   `env:"POSTRIDER_DRAIN_TIMEOUT"`
	// RelayProbeInterval is the time between two probes of a relay without mail; 0 is never.
	RelayProbeInterval Interval `env:"POSTRIDER_RELAY_PROBE_INTERVAL"`

	// RecordingURL has {id} and may have {customer_id}. Empty: no recordings.
	RecordingURL   string `env:"POSTRIDER_RECORDING_URL"`
	RecordingToken Secret `env:"POSTRIDER_RECORDING_TOKEN"`

	LogLevel slog.Level `env:"POSTRIDER_LOG_LEVEL"`

	// DevDir is the directory of dev's data and key.
	DevDir string `env:"POSTRIDER_DEV_DIR"`
	// The ports of dev's servers on 127.0.0.1. 0 is a free one at each start.
	DevPostgresPort   int `env:"POSTRIDER_DEV_POSTGRES_PORT"`
	DevTemporalPort   int `env:"POSTRIDER_DEV_TEMPORAL_PORT"`
	DevTemporalUIPort int `env:"POSTRIDER_DEV_TEMPORAL_UI_PORT"`

	// Dev is true for `postrider dev`. It is not a setting; AllowLoopback is not one either.
	Dev bool
	// AllowLoopback allows loopback addresses in webhook and attachment URLs: in dev only.
	AllowLoopback bool

	use Use
}

// Count is a limit from 1 to 65535.
type Count int

// CustomerNetwork is a private network that the attachment URLs of one customer may reach.
type CustomerNetwork struct {
	CustomerID string
	Network    netip.Prefix
}

// DNSServers are addresses of DNS servers as host:port.
type DNSServers []string

// RecipientRate is the rate of a recipients' domain, in lower case. "*" stands for each domain
// that is not named.
type RecipientRate struct {
	Domain string
	// Rate is the rate as it was written, such as 20/s. Pace is the time between two
	// recipients.
	Rate string
	Pace time.Duration
}

// Interval is the time between two probes: 0 for never, otherwise 1 s or more.
type Interval time.Duration

// Checks are checks of values that other packages provide.
type Checks struct {
	// Relay checks a relay's URL. Its error must not contain the user or the password. Nil
	// means that only the form of the URL is checked.
	Relay func(raw string) error
}

// Load reads the settings for a command from an environment, in the form of os.Environ. Its
// error is Problems.
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

// environment maps each variable to its last value.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	return env
}

// inboxRelay is the URL of the relay that delivers into dev's inbox. The inbox is the
// recipients' server.
func inboxRelay(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil || host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	return "smtp://" + net.JoinHostPort(host, port) + "?name=inbox&tls=none&accepts=final"
}
