package config

import "strings"

// Setting is a row of the table.
type Setting struct {
	// Name is the full name of the variable.
	Name string
	// Group is its heading in the documentation.
	Group string
	// Default is the value if it is not set. Empty means there is none.
	Default string
	// DevDefault is the default in dev. Empty means the same as Default.
	DevDefault string
	// Uses are the commands that read it.
	Uses Use
	// Required are the commands that do not start without it.
	Required Use
	// Secret: the value is never shown. HasPassword: it is shown without its password.
	Secret, HasPassword bool
	// Description is one line: the meaning, the unit and special values.
	Description string
	// Example is a valid value.
	Example string
}

const (
	api     = Serve | ServeWorker | DevUse
	worker  = Worker | ServeWorker | DevUse
	process = api | worker
	all     = process | Tool | Migrate
)

var settings = []Setting{
	{Name: "DATABASE_URL", Group: "Services", Uses: all, Required: all &^ DevUse, HasPassword: true,
		Description: "The Postgres database. In dev, a private Postgres is started if it is not set.",
		Example:     "postgres://postrider:secret@db.internal:5432/postrider?sslmode=require"},
	{Name: "POSTRIDER_SMTP_URLS", Group: "Services", Uses: process, Required: worker &^ DevUse, HasPassword: true,
		Description: "The relays that mail is handed to, in the order they are tried, separated by spaces, commas or newlines. An API process need not have it; one that has it refuses mail that no relay in it takes (streams=, domains=). In dev, the default is the built-in inbox.",
		Example:     "smtp://user:secret@relay.example.com:587?name=primary&tls=starttls&accepts=relay"},
	{Name: "POSTRIDER_SECRET_KEY", Group: "Services", Uses: process | Tool, Required: (process | Tool) &^ DevUse, Secret: true,
		Description: "32 random bytes, as base64 or hex, that seal the secrets in the database; the same for all processes. In dev, the default is made at the first start and kept in POSTRIDER_DEV_DIR.",
		Example:     "the output of: openssl rand -base64 32"},
	{Name: "POSTRIDER_SECRET_KEY_OLD", Group: "Services", Uses: process | Tool, Secret: true,
		Description: "The key before POSTRIDER_SECRET_KEY, while it is being replaced. Secrets sealed with it still open, and it goes on sealing until `postrider secret rotate`. Not set, there is none.",
		Example:     "the output of: openssl rand -base64 32"},
	{Name: "POSTRIDER_ALLOW_PUBLISHED_SECRETS", Group: "Services", Default: "false", DevDefault: "true", Uses: all,
		Description: "Start with the passwords and keys of deploy/dev.env and these pages, which are public: for a trial on a machine that only you can reach.",
		Example:     "true"},

	{Name: "POSTRIDER_LISTEN", Group: "Addresses", Default: ":8080", DevDefault: "127.0.0.1:8080", Uses: api,
		Description: "The address on which the API listens, as host:port; no host means all addresses.",
		Example:     "127.0.0.1:8080"},
	{Name: "POSTRIDER_HEALTH_LISTEN", Group: "Addresses", Default: ":8081", Uses: Worker,
		Description: "The address on which a separate worker answers /healthz and /readyz, as host:port.",
		Example:     "127.0.0.1:8081"},
	{Name: "POSTRIDER_INBOUND_LISTEN", Group: "Addresses", DevDefault: "127.0.0.1:2525", Uses: api,
		Description: "The address on which the SMTP server for mailboxes listens, as host:port. Not set, there is none.",
		Example:     ":2525"},
	{Name: "POSTRIDER_PUBLIC_URL", Group: "Addresses", Uses: process,
		Description: "The public address of the API, for the Location of a new e-mail, and for the links by which recipients unsubscribe, which need https. Not set, the Location is a path, and there are no links; in dev, links lead to POSTRIDER_LISTEN.",
		Example:     "https://mail.example.com"},
	{Name: "POSTRIDER_METRICS_TOKEN", Group: "Addresses", Uses: process, Secret: true,
		Description: "The bearer token that /metrics asks for, on the API's port and on a worker's. Not set, only programs of the same machine may read it.",
		Example:     "the output of: openssl rand -hex 16"},
	{Name: "POSTRIDER_PPROF_LISTEN", Group: "Addresses", Uses: process,
		Description: "The address on which Go's profiler answers, at /debug/pprof/, as host:port. It asks for no credential: give an address that only operators reach. Not set, there is none.",
		Example:     "127.0.0.1:6060"},
	{Name: "POSTRIDER_TEMPORAL_UI_URL", Group: "Addresses", Uses: api,
		Description: "The Temporal UI, for the workflow_url of an e-mail. Not set, e-mails have none; in dev, the default is that of the dev server.",
		Example:     "https://temporal.example.com"},

	{Name: "POSTRIDER_PAYLOAD_KEYS", Group: "Encryption and versions", Uses: process, Secret: true,
		Description: "Keys that encrypt the payloads in workflow histories, as id:key separated by commas, each key 32 random bytes as base64 or hex. The first encrypts, all decrypt; they are the same for all processes. Not set, histories are in the clear.",
		Example:     "2026-01:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="},
	{Name: "POSTRIDER_CODEC_TOKEN", Group: "Encryption and versions", Uses: api, Secret: true,
		Description: "The token for /codec, where the Temporal UI and CLI have payloads decrypted: 16 or more letters, digits, - and _. Not set, there is no /codec; in dev, a new token is made at each start.",
		Example:     "0123456789abcdef0123456789abcdef"},
	{Name: "POSTRIDER_DEPLOYMENT", Group: "Encryption and versions", Uses: worker,
		Description: "The name of the worker deployment, for versioned workers. Not set, workers are not versioned.",
		Example:     "postrider"},
	{Name: "POSTRIDER_BUILD_ID", Group: "Encryption and versions", Uses: worker,
		Description: "The version of this build in the worker deployment. Not set, the binary's own version.",
		Example:     "v1-4-2"},

	{Name: "POSTRIDER_REQUIRE_VERIFIED_DOMAINS", Group: "Limits", Default: "true", Uses: process,
		Description: "Refuse mail whose sender's domain is not a verified domain of the customer.",
		Example:     "false"},
	{Name: "POSTRIDER_MAX_MESSAGE_BYTES", Group: "Limits", Default: "26214400", Uses: process,
		Description: "The largest message in bytes: text, HTML and decoded attachments together.",
		Example:     "10485760"},
	{Name: "POSTRIDER_MAX_RECIPIENTS", Group: "Limits", Default: "50", Uses: process,
		Description: "The largest number of recipients in to, cc and bcc of a message together, 1 to 1000.",
		Example:     "100"},
	{Name: "POSTRIDER_BLOCKED_ATTACHMENTS", Group: "Limits", Uses: process,
		Description: "File name extensions that are not sent as attachments, separated by commas; `none` blocks nothing. Not set, the list in docs/api.md applies.",
		Example:     "exe,com,scr,bat,cmd,js,vbs,msi,jar,ps1,lnk"},
	{Name: "POSTRIDER_ALLOW_RELAY_HEADERS", Group: "Limits", Default: "false", Uses: process,
		Description: "Take headers that relays obey: X-SMTPAPI, X-SES-*, X-Mailgun-*, X-PM-*, X-MS-Exchange-* and the like. With them a customer can give a relay orders in your account.",
		Example:     "true"},
	{Name: "POSTRIDER_ALLOW_HTTP", Group: "Limits", Default: "false", DevDefault: "true", Uses: process,
		Description: "Let webhooks and attachment URLs use http://, not only https://.",
		Example:     "true"},
	{Name: "POSTRIDER_ALLOW_PRIVATE_CIDRS", Group: "Limits", Uses: process,
		Description: "Private networks that webhooks may reach, separated by commas. Not set, none.",
		Example:     "10.20.0.0/16,fd00:20::/32"},
	{Name: "POSTRIDER_ATTACHMENT_CIDRS", Group: "Limits", Uses: process,
		Description: "Private networks that a customer's attachment URLs may reach, as customer-id=network separated by commas. That customer can read the answers of all hosts there. Not set, none.",
		Example:     "01a20894-d574-79b4-a163-2c334f1ed74c=10.20.0.0/16"},
	{Name: "POSTRIDER_REQUEST_RATE", Group: "Limits", Default: "500", Uses: api,
		Description: "Requests a second that one access key or user may make of one API process, twice as many at once; 0 is any number.",
		Example:     "100"},
	{Name: "POSTRIDER_CUSTOMER_REQUEST_RATE", Group: "Limits", Default: "1000", Uses: api,
		Description: "Requests a second that all access keys and users of one customer together may make of one API process, twice as many at once; 0 is any number.",
		Example:     "200"},
	{Name: "POSTRIDER_REQUEST_MEMORY_BYTES", Group: "Limits", Uses: api,
		Description: "The memory, in bytes, that requests, the data made of them, and answers may hold together. One customer has at most half of each part. Beyond that, requests wait 10 seconds, then get 503. One request at a time that needs more than its share is worked on beside it. Not set, it is the memory that the container leaves, 256 MiB at most.",
		Example:     "134217728"},
	{Name: "POSTRIDER_REQUEST_SPOOL_DIR", Group: "Limits", Uses: api,
		Description: "The directory of the files that hold requests and answers of more than 64 KiB while clients send and read them. It should be on a disk, not in memory. The files have no names and are gone with the process. Not set, it is the system's directory for temporary files.",
		Example:     "/var/tmp"},
	{Name: "POSTRIDER_REQUEST_SPOOL_BYTES", Group: "Limits", Default: "1073741824", Uses: api,
		Description: "The largest size of all those files together, in bytes; never less than twice the largest request. A request that finds no room gets 503. The files of a customer have at most as much as they leave free: half of it, if there are no others.",
		Example:     "4294967296"},
	{Name: "POSTRIDER_MAX_CONNECTIONS_PER_IP", Group: "Limits", Default: "256", Uses: process,
		Description: "The connections that an IPv4 address or an IPv6 /64 may have at once to a port of the API or of a worker. It is never more than half as many as are free; one more gets 429. A port has 4096 in all, fewer in a container of less than 2 GB. An IPv6 /48 may have four times as many. While more than half of all are open, connections that wait for their clients are closed for new ones. Those of POSTRIDER_TRUSTED_PROXIES are not counted by address, nor closed. 0 is any number.",
		Example:     "64"},
	{Name: "POSTRIDER_RECIPIENT_RATES", Group: "Limits", Uses: worker,
		Description: "The number of recipients that a domain may have in a time, over all processes, separated by commas; `*` is each domain that is not named. Not set, any number.",
		Example:     "gmail.com=20/s,outlook.com=600/m"},
	{Name: "POSTRIDER_TRUSTED_PROXIES", Group: "Limits", Uses: api,
		Description: "Networks of proxies whose X-Forwarded-For is believed, separated by commas. Not set, the client's address is that of the connection.",
		Example:     "10.0.0.0/8"},

	{Name: "POSTRIDER_INBOUND_MAX_MESSAGE_BYTES", Group: "Receiving", Default: "52428800", Uses: api,
		Description: "The largest message in bytes that is received, as it is on the wire; a larger one gets 552.",
		Example:     "36700160"},
	{Name: "POSTRIDER_INBOUND_MEMORY_BYTES", Group: "Receiving", Uses: api,
		Description: "The memory, in bytes, that all messages that are being received hold together; more than that is held in files. Messages that are being stored hold as much again. A larger one is stored while no large request is worked on. Not set, it is 64 MiB; in a container of less than 2 GB it is 1/32 of its memory.",
		Example:     "33554432"},
	{Name: "POSTRIDER_INBOUND_SPOOL_DIR", Group: "Receiving", Uses: api,
		Description: "The directory of those files. It should be on a disk, not in memory. The files have no names and are gone with the process. Not set, it is the system's directory for temporary files.",
		Example:     "/var/tmp"},
	{Name: "POSTRIDER_INBOUND_SPOOL_BYTES", Group: "Receiving", Default: "1073741824", Uses: api,
		Description: "The largest size of all those files together, in bytes; never less than twice the largest message. A message that finds no room gets 452, and its client tries again later. The files of an IPv4 address or an IPv6 /64 have at most as much as they leave free: half of it, if there are no others.",
		Example:     "4294967296"},
	{Name: "POSTRIDER_INBOUND_MAX_CONNECTIONS", Group: "Receiving", Default: "200", Uses: api,
		Description: "SMTP clients connected at once, in all. One more has the place of the client with the least progress, which gets 421.",
		Example:     "500"},
	{Name: "POSTRIDER_INBOUND_MAX_CONNECTIONS_PER_IP", Group: "Receiving", Default: "50", Uses: api,
		Description: "Connections of an IPv4 address or an IPv6 /64 at once; never more than half as many as are free.",
		Example:     "20"},
	{Name: "POSTRIDER_INBOUND_MAX_RECIPIENTS", Group: "Receiving", Default: "1000", Uses: api,
		Description: "Recipients of one transaction; one more gets 452. At least 100, which RFC 5321 requires.",
		Example:     "100"},
	{Name: "POSTRIDER_INBOUND_MAX_ERRORS", Group: "Receiving", Default: "100", Uses: api,
		Description: "The number of errors of a client without a message that is stored (unknown recipients, wrong sequence, wrong syntax); then it gets 421. Four unknown commands end a session in any case.",
		Example:     "20"},
	{Name: "POSTRIDER_INBOUND_MAIL_TIMEOUT", Group: "Receiving", Default: "1m", Uses: api,
		Description: "The time for which a client may be connected without a transaction, before MAIL; at most 10s of it while half of the connections are in use.",
		Example:     "30s"},
	{Name: "POSTRIDER_INBOUND_READ_TIMEOUT", Group: "Receiving", Default: "5m", Uses: api,
		Description: "The time for which a client may be silent in a transaction, and be behind 1 KiB a second within a message.",
		Example:     "5m"},
	{Name: "POSTRIDER_INBOUND_SESSION_TIMEOUT", Group: "Receiving", Default: "1h", Uses: api,
		Description: "The time for which a client may be connected, however busy it is.",
		Example:     "30m"},

	{Name: "POSTRIDER_RETRY_SCHEDULE", Group: "Time", Default: "1m,5m,15m,30m,1h,2h,4h,8h,12h", Uses: process,
		Description: "The waits between a recipient's attempts, separated by commas; the last one repeats until POSTRIDER_EXPIRE_AFTER. A full mailbox (4.2.2, or 452 without an enhanced code) is tried after 30 min at the earliest. If a reply names a wait, the next attempt comes after that wait.",
		Example:     "1m,10m,1h,6h"},
	{Name: "POSTRIDER_EXPIRE_AFTER", Group: "Time", Default: "72h", Uses: process,
		Description: "The time for which a recipient is tried, from the first attempt, where the message sets no expires_at.",
		Example:     "72h"},
	{Name: "POSTRIDER_WEBHOOK_SCHEDULE", Group: "Time", Default: "0s,5s,5m,30m,2h,5h,10h,14h,20h,24h", Uses: process,
		Description: "The waits before a webhook's attempts, separated by commas, the first one included; after the last attempt it is given up.",
		Example:     "0s,10s,5m,1h"},
	{Name: "POSTRIDER_DRAIN_TIMEOUT", Group: "Time", Default: "2m", Uses: worker,
		Description: "The time that a worker may take after a stop to finish the work it has begun.",
		Example:     "2m"},
	{Name: "POSTRIDER_RELAY_PROBE_INTERVAL", Group: "Time", Default: "1m", Uses: worker,
		Description: "The time after which a worker probes a relay that has had no mail; it also probes at its start. A relay that fails is probed after its backoff. A probe connects, greets, signs in and quits. 0 is never; then mail that waits for a relay asks itself, every five minutes at the latest.",
		Example:     "30s"},

	{Name: "POSTRIDER_BOUNCE_HOST", Group: "Sender domains", Uses: process | Tool,
		Description: "The host that bounces go to: MAIL FROM is b-<token>@ this host, or @ the sender domain's own name for it (docs/deliverability.md). It needs an MX record and an SPF record; the relays have to take it as a sender. Postrider does not read the bounces yet. Not set, MAIL FROM is the sender's address.",
		Example:     "bounce.example.com"},
	{Name: "POSTRIDER_DNS_SERVERS", Group: "Sender domains", Uses: worker,
		Description: "The recursive DNS servers that find the name servers of sender domains, as host:port separated by commas, tried in this order. Not set, those of /etc/resolv.conf.",
		Example:     "192.0.2.53:53,[2001:db8::53]:53"},
	{Name: "POSTRIDER_REPUTATION_PAUSE", Group: "Sender domains", Default: "false", Uses: worker,
		Description: "Pause the broadcast stream of a sender domain whose reputation becomes critical, until an operator lifts the pause (docs/operating.md). Its transactional mail goes on.",
		Example:     "true"},

	{Name: "POSTRIDER_RECORDING_URL", Group: "Recordings", Uses: process,
		Description: "The URL from which recordings are fetched, with {id} and {customer_id} in it; the same for API processes and workers. Not set, attachments of that kind are refused.",
		Example:     "https://recordings.internal/v1/{customer_id}/{id}"},
	{Name: "POSTRIDER_RECORDING_TOKEN", Group: "Recordings", Uses: worker, Secret: true,
		Description: "The bearer token for POSTRIDER_RECORDING_URL. Not set, none is sent.",
		Example:     "the token alone, without the word Bearer"},

	{Name: "POSTRIDER_LOG_LEVEL", Group: "Logging", Default: "info", Uses: all,
		Description: "The lowest level that is logged: debug, info, warn or error.",
		Example:     "debug"},

	{Name: "POSTRIDER_DEV_DIR", Group: "Development", Default: ".postrider", Uses: DevUse,
		Description: "The directory in which dev keeps its data, its key, its log and dev.env.",
		Example:     "/var/tmp/postrider"},
	{Name: "POSTRIDER_DEV_POSTGRES_PORT", Group: "Development", Default: "15432", Uses: DevUse,
		Description: "The port of the private Postgres on 127.0.0.1; 0 is a free one at each start.",
		Example:     "15433"},
	{Name: "POSTRIDER_DEV_TEMPORAL_PORT", Group: "Development", Default: "17233", Uses: DevUse,
		Description: "The port of the Temporal dev server on 127.0.0.1; 0 is a free one at each start.",
		Example:     "17234"},
	{Name: "POSTRIDER_DEV_TEMPORAL_UI_PORT", Group: "Development", Default: "18233", Uses: DevUse,
		Description: "The port of the Temporal UI on 127.0.0.1; 0 is a free one at each start.",
		Example:     "18234"},
}

// Settings is the table, in the order of the documentation.
func Settings() []Setting { return append([]Setting(nil), settings...) }

// find returns the row of a name. It panics if there is none.
func find(name string) Setting {
	for _, s := range settings {
		if s.Name == name {
			return s
		}
	}
	panic("config: no setting " + name)
}

func (s Setting) defaultFor(use Use) string {
	if use == DevUse && s.DevDefault != "" {
		return s.DevDefault
	}
	return s.Default
}

// String lists the commands as in the documentation. `serve --worker` is listed only if neither
// serve nor worker is.
func (u Use) String() string {
	if u == all {
		return "all"
	}
	var names []string
	for _, c := range []struct {
		use  Use
		name string
	}{{Serve, "serve"}, {Worker, "worker"}, {DevUse, "dev"}, {Tool, "tools"}, {Migrate, "migrate"}} {
		if u&c.use != 0 {
			names = append(names, c.name)
		}
	}
	if u&ServeWorker != 0 && u&(Serve|Worker) == 0 {
		names = append([]string{"serve --worker"}, names...)
	}
	return strings.Join(names, ", ")
}
