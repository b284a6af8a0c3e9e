package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	temporallog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"

	"github.com/postrider/postrider/activities"
	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/attachment"
	"github.com/postrider/postrider/internal/codec"
	"github.com/postrider/postrider/internal/config"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/dispatch"
	"github.com/postrider/postrider/internal/dnslookup"
	"github.com/postrider/postrider/internal/httpserver"
	"github.com/postrider/postrider/internal/inbound"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/membudget"
	"github.com/postrider/postrider/internal/metrics"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/safehttp"
	"github.com/postrider/postrider/internal/senderdomain"
	"github.com/postrider/postrider/internal/signing"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
	"github.com/postrider/postrider/internal/webhook"
	"github.com/postrider/postrider/workflows"
)

// app has the parts of a process.
type app struct {
	cfg      config.Config
	log      *slog.Logger
	store    *db.DB
	temporal client.Client
	// codec is nil if histories are not encrypted.
	codec      *codec.Codec
	namespace  string
	dispatcher *dispatch.Dispatcher
	// readiness reports whether this process's worker gets tasks.
	readiness  *dispatch.Readiness
	relays     *relay.Relays
	http       *safehttp.Client
	activities *activities.Activities
	drain      activities.Drain
	// keyChecked: the secret key is the one that the database's secrets are encrypted with.
	keyChecked bool
	// attachmentURLs fetches attachments that customers refer to by URL.
	attachmentURLs *attachment.URLs
	metrics        *metrics.Metrics
	// memory is the budget of each part. A request or message that needs more than its part's
	// budget waits for a turn.
	memory memory
	turns  *turns.Turns
	// spool holds large requests and answers in files while clients send and read them.
	spool *spool.Pool
}

func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: readable}))
}

// readable formats durations as 2m0s; slog writes them as a number of nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// temporalClient makes a client from the SDK's own environment variables and configuration
// file. It connects on first use, so that the process starts while Temporal is down. With a
// codec, payloads are encrypted.
func temporalClient(log *slog.Logger, payloads *codec.Codec) (client.Client, string, error) {
	opts, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, "", fmt.Errorf("temporal settings: %w", err)
	}
	if opts.Namespace == "" {
		opts.Namespace = client.DefaultNamespace
	}
	if payloads != nil {
		payloads.Apply(&opts)
	}
	if opts.FailureConverter == nil {
		opts.FailureConverter = temporal.GetDefaultFailureConverter()
	}
	opts.FailureConverter = workflows.Failures{FailureConverter: opts.FailureConverter}
	// Requests to Temporal are small: compression would cost more CPU than it saves in
	// transfer.
	opts.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	opts.Logger = temporallog.NewStructuredLogger(log.With("part", "temporal"))
	c, err := client.NewLazyClient(opts)
	if err != nil {
		return nil, "", fmt.Errorf("temporal client: %w", err)
	}
	return c, opts.Namespace, nil
}

// newCodec makes the codec that encrypts histories; nil without keys.
func newCodec(cfg config.Config) (*codec.Codec, error) {
	if len(cfg.PayloadKeys) == 0 {
		return nil, nil
	}
	keys := make([]codec.Key, len(cfg.PayloadKeys))
	for i, k := range cfg.PayloadKeys {
		keys[i] = codec.Key{ID: k.ID, Bytes: k.Bytes()}
	}
	return codec.New(keys)
}

func openStore(cfg config.Config, observe func([]email.Event), log *slog.Logger) (*db.DB, error) {
	return db.Open(cfg.DatabaseURL.Reveal(), db.Options{
		SecretKey:              cfg.SecretKey.Bytes(),
		OldSecretKey:           cfg.OldSecretKey.Bytes(),
		RequireVerifiedDomains: cfg.RequireVerifiedDomains,
		BounceHost:             cfg.BounceHost,
		LinkBase:               linkBase(cfg),
		MaxMessageBytes:        cfg.MaxMessageBytes,
		Blocked:                email.Block(cfg.BlockedAttachments),
		Schedule:               delivery.Schedule{Steps: cfg.RetrySchedule, ExpireAfter: cfg.ExpireAfter},
		RecipientRates:         recipientRates(cfg.RecipientRates),
		ReputationPause:        cfg.ReputationPause,
		WebhookSchedule:        cfg.WebhookSchedule,
		WebhookBody:            webhook.Bodies,
		Observe:                observe,
		Log:                    log,
	})
}

// newApp makes all parts of a process except the listeners.
func newApp(cfg config.Config, m memory, log *slog.Logger) (*app, error) {
	a := &app{cfg: cfg, log: log, memory: m, turns: &turns.Turns{}}
	a.spool = api.NewSpool(cfg.RequestSpoolDir, max(cfg.RequestSpoolBytes, 2*api.MaxBody(a.cfg.MaxMessageBytes)))
	var err error
	if a.store, err = openStore(cfg, func(es []email.Event) { a.metrics.Observe(es) }, log); err != nil {
		return nil, err
	}
	if a.codec, err = newCodec(cfg); err != nil {
		return nil, errors.Join(err, a.store.Close())
	}
	if a.temporal, a.namespace, err = temporalClient(log, a.codec); err != nil {
		return nil, errors.Join(err, a.store.Close())
	}
	a.dispatcher = dispatch.New(a.temporal, a.store.Mail, log)
	a.readiness = dispatch.NewReadiness(a.dispatcher, a.namespace, dispatch.Version{Deployment: cfg.Deployment, BuildID: a.buildID()})
	var relays []relay.Relay
	for _, raw := range cfg.SMTPURLs {
		r, err := relay.Parse(raw)
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		relays = append(relays, r)
	}
	a.relays = relay.New(relays, relay.Options{Log: log, Ledger: a.store.Mail, Board: a.store.Mail, MailOf: a.store.Mail.MailOf, ProbeEvery: time.Duration(cfg.RelayProbeInterval)})
	a.metrics = metrics.New(a.store.Mail, a.relays, cfg.MetricsToken.Reveal(), log)
	a.http = newHTTP(cfg, 0, cfg.AllowPrivateCIDRs)
	a.attachmentURLs = attachment.NewURLs(newHTTP(cfg, attachment.URLTimeout, nil), customerClients(cfg), version)
	resolvers, err := newResolvers(cfg, a.attachmentURLs)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	lookup, err := newLookup(cfg, log)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.activities, a.drain, err = activities.New(activities.Deps{
		Acceptor: a.store.Mail, Customers: a.store.Accounts, Limits: a.limits(),
		Mail: a.store.Mail, Gate: a.store.Mail, Journal: a.store.Mail, Recorder: a.store.Mail, Controller: a.store.Mail, Deliveries: a.store.Webhooks, Domains: a.store.Accounts,
		BatchGate: a.store.Mail, BatchMail: a.store.Mail, BatchJournal: a.store.Mail, BatchController: a.store.Mail,
		Relays: relaySessions{a.relays}, Render: renderMessage, Signer: signing.New(a.store.Accounts, log), Waker: a.dispatcher,
		Resolver:      resolvers,
		Lookup:        lookup,
		RelaySources:  relaySources(relays),
		Poster:        webhook.NewPoster(a.http, version),
		Log:           log,
		LargeBytes:    m.large,
		AcquireMemory: a.turns.Acquire,
		MapToFile:     func(message []byte) ([]byte, func() error, error) { return a.spool.Map("worker", message) },
	})
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.metrics.Watch(metrics.Limits{Budgets: func() map[string]membudget.State {
		return map[string]membudget.State{"sending": activities.LargeMessages(a.activities)}
	}})
	return a, nil
}

// newResolvers makes the resolvers of attachment references. Recordings are refused if
// POSTRIDER_RECORDING_URL is not set.
func newResolvers(cfg config.Config, urls *attachment.URLs) (attachment.Resolvers, error) {
	out := attachment.Resolvers{
		ByType:  map[email.ReferenceType]attachment.Resolver{email.ReferenceURL: urls.Resolve, email.ReferenceRecording: noRecordings},
		Blocked: email.Block(cfg.BlockedAttachments),
	}
	if cfg.RecordingURL == "" {
		return out, nil
	}
	r, err := attachment.NewRecordings(attachment.RecordingOptions{URL: cfg.RecordingURL, Token: cfg.RecordingToken.Reveal()})
	if err != nil {
		return out, fmt.Errorf("POSTRIDER_RECORDING_URL: %w", err)
	}
	out.ByType[email.ReferenceRecording] = r.Resolve
	return out, nil
}

func noRecordings(context.Context, string, email.Attachment, int64) (attachment.Content, error) {
	return attachment.Content{}, email.Fail(email.CodeInvalidRequest, "recordings cannot be attached here: the operator has to set POSTRIDER_RECORDING_URL")
}

// newLookup makes the DNS client of a worker. On a machine without DNS servers, no sender domain is
// verified by its records, and everything else works.
func newLookup(cfg config.Config, log *slog.Logger) (senderdomain.Lookup, error) {
	c, err := dnslookup.New(cfg.DNSServers, dnslookup.Options{})
	switch {
	case err == nil:
		return c, nil
	case len(cfg.DNSServers) > 0:
		return nil, fmt.Errorf("POSTRIDER_DNS_SERVERS: %w", err)
	}
	log.Warn("dns.none", "error", err, "advice", "set POSTRIDER_DNS_SERVERS to have sender domains verified")
	return noLookup{reason: err.Error()}, nil
}

// customerClients are the HTTP clients of customers whose attachment URLs may reach private
// networks, by customer id.
func customerClients(cfg config.Config) map[string]*safehttp.Client {
	networks := map[string][]netip.Prefix{}
	for _, n := range cfg.AttachmentNetworks {
		networks[n.CustomerID] = append(networks[n.CustomerID], n.Network)
	}
	out := map[string]*safehttp.Client{}
	for id, open := range networks {
		out[id] = newHTTP(cfg, attachment.URLTimeout, open)
	}
	return out
}

// newHTTP makes a client for URLs that customers give. It may reach the private networks
// besides public ones. A timeout of 0 is the one for webhooks.
func newHTTP(cfg config.Config, timeout time.Duration, private []netip.Prefix) *safehttp.Client {
	return safehttp.New(safehttp.Options{AllowPrivate: private, AllowHTTP: cfg.AllowHTTP, AllowLoopback: cfg.AllowLoopback, Timeout: timeout})
}

func (a *app) close() error {
	if a.relays != nil {
		a.relays.Close()
	}
	a.temporal.Close()
	return a.store.Close()
}

// limits are the limits of a message, over REST and in a direct start.
func (a *app) limits() intake.Limits {
	var serves func(delivery.Route) bool
	if len(a.cfg.SMTPURLs) > 0 {
		serves = a.relays.Serves
	}
	return intake.Limits{LinkBase: linkBase(a.cfg), Serves: serves, MaxRecipients: int(a.cfg.MaxRecipients), MaxMessageBytes: a.cfg.MaxMessageBytes,
		Blocked: email.Block(a.cfg.BlockedAttachments), AllowRelayHeaders: a.cfg.AllowRelayHeaders, CheckURL: a.http.CheckURL, CheckAttachmentURL: a.attachmentURLs.Check, NoRecordings: a.cfg.RecordingURL == ""}
}

// codecPath is the path at which the Temporal UI and CLI have payloads decrypted.
const codecPath = "/codec"

// handler is the handler of the API's port: the API, and /codec if histories are encrypted.
func (a *app) handler(withWorker bool) (http.Handler, error) {
	server, err := a.api(withWorker)
	token := a.cfg.CodecToken.Reveal()
	if err != nil || a.codec == nil || token == "" {
		return server, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", server)
	mux.Handle(codecPath+"/", a.codec.Handler(token, a.cfg.TemporalUIURL))
	return mux, nil
}

// api is the HTTP API, of a process with or without a worker.
func (a *app) api(withWorker bool) (http.Handler, error) {
	var workerReady func(context.Context) error
	if withWorker {
		workerReady = a.readiness.Check
	}
	var workflowURL func(string) string
	if base := strings.TrimRight(a.cfg.TemporalUIURL, "/"); base != "" {
		workflowURL = func(id string) string {
			return base + "/namespaces/" + a.namespace + "/workflows/" + url.PathEscape(id)
		}
	}
	s := a.store
	server, err := api.New(api.Deps{
		Emails: s.Mail, Stats: s.Mail, Events: s.Mail, Previews: s.Mail, Batches: s.Mail, Unsubscribing: s.Mail, Pauses: s.Mail, Replays: s.Mail, Dispatcher: a.dispatcher,
		Credentials: s.Accounts, Logins: s.Accounts, Keys: s.Accounts, OwnCustomer: s.Accounts, Customers: s.Accounts, Users: s.Accounts, Domains: s.Accounts, SenderDomains: s.Accounts, Reputations: s.Reputation, Suppressions: s.Suppressions,
		Usage: s.Accounts, Audit: s.Accounts, Files: s.Files, Webhooks: s.Webhooks, Mailboxes: s.Mailboxes,
		Parser: inbound.Parser{}, Render: previewMessage(linkBase(a.cfg)), Ready: a.store.Ready, WorkerReady: workerReady, Metrics: a.metrics, CheckURL: a.http.CheckURL, Log: a.log,
	}, api.Options{
		Limits:   a.limits(),
		TokenKey: derivedKey(a.cfg.SecretKey.Bytes(), loginTokens), OldTokenKey: derivedKey(a.cfg.OldSecretKey.Bytes(), loginTokens),
		SigningKey:  a.store.Keys.SealingKey,
		PublicURL:   a.cfg.PublicURL,
		RequestRate: a.cfg.RequestRate, CustomerRequestRate: a.cfg.CustomerRequestRate, MemoryBytes: a.cfg.RequestMemoryBytes, Turns: a.turns, Spool: a.spool, HashesAtOnce: a.memory.hashes, Connections: a.memory.connections, TrustedProxies: a.cfg.TrustedProxies,
		WorkflowURL: workflowURL,
		Home:        a.home(),
	})
	if err != nil {
		return nil, err
	}
	a.metrics.Watch(metrics.Limits{Budgets: server.Budgets, Unavailable: server.Unavailable})
	return server, nil
}

// home is the answer to GET /. In dev, where the port is on a loopback address, it has the
// addresses of the Temporal UI and the inbox.
func (a *app) home() api.Home {
	if !a.cfg.Dev {
		return api.Home{}
	}
	return api.Home{TemporalUI: a.cfg.TemporalUIURL, Inbox: localURL("smtp", a.cfg.InboundListen)}
}

// loginTokens is the purpose of the keys that sign login tokens.
const loginTokens = "login tokens"

// derivedKey derives a key for one purpose from the installation's secret key; nil without a
// secret.
func derivedKey(secret []byte, purpose string) []byte {
	if len(secret) == 0 {
		return nil
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("postrider: " + purpose)) // hash.Hash never fails
	return mac.Sum(nil)
}

// services are the parts of a process that run until it ends. When one fails, all end.
type services struct {
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
	cancel context.CancelFunc
}

func newServices(ctx context.Context) (context.Context, *services) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, &services{cancel: cancel}
}

func (s *services) run(name string, fn func() error) {
	s.wg.Go(func() {
		if err := fn(); err != nil {
			s.mu.Lock()
			s.errs = append(s.errs, fmt.Errorf("%s: %w", name, err))
			s.mu.Unlock()
			s.cancel()
		}
	})
}

func (s *services) wait() error {
	s.wg.Wait()
	s.cancel()
	return errors.Join(s.errs...)
}

// listen opens a TCP listener. Its error names the setting of the address.
func listen(ctx context.Context, addr, setting string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot listen on %s (%w); set %s to another address", setting, addr, err, setting)
	}
	return l, nil
}

// httpStopTimeout is how long open requests may go on after a stop.
const httpStopTimeout = 10 * time.Second

// serveHTTP serves on a listener until ctx ends. Then open requests have httpStopTimeout to
// finish.
func (a *app) serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	srv := httpserver.New(h)
	done := make(chan error, 1)
	go func() {
		done <- srv.Serve(httpserver.LimitConnections(l, a.memory.connections, a.cfg.MaxConnectionsPerIP, a.cfg.TrustedProxies))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), httpStopTimeout)
	defer cancel()
	if err := srv.Shutdown(stopCtx); err != nil {
		return errors.Join(err, srv.Close())
	}
	return nil
}

// loadConfig reads the settings of a command from the environment.
func loadConfig(use config.Use) (config.Config, error) {
	return config.Load(os.Environ(), use, config.Checks{Relay: func(raw string) error {
		_, err := relay.Parse(raw)
		return err
	}})
}
