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
	"github.com/postrider/postrider/internal/httpserver"
	"github.com/postrider/postrider/internal/inbound"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/metrics"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/safehttp"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
	"github.com/postrider/postrider/internal/webhook"
	"github.com/postrider/postrider/workflows"
)

// app is a process's parts, wired.
type app struct {
	cfg      config.Config
	log      *slog.Logger
	store    *db.Store
	temporal client.Client
	// codec is nil where histories are in the clear.
	codec      *codec.Codec
	namespace  string
	dispatcher *dispatch.Dispatcher
	// readiness tells whether this process's worker gets work.
	readiness  *dispatch.Readiness
	relays     *relay.Relays
	http       *safehttp.Client
	activities *activities.Activities
	drain      activities.Drain
	// keyChecked: the secret key is the database's.
	keyChecked bool
	// attachmentURLs fetch what customers give addresses of.
	attachmentURLs *attachment.URLs
	metrics        *metrics.Metrics
	// memory is how the process divides it, and turns what those parts wait for that take more.
	memory memory
	turns  *turns.Turns
	// spool has large requests and answers at clients' pace.
	spool *spool.Pool
}

func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: readable}))
}

// readable writes durations as 2m0s: JSON has them as a number of nanoseconds.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// temporalClient reads the SDK's own environment and configuration file. The
// client connects when it is first used: Temporal may be down. With a codec what
// it writes is encrypted.
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
	// What goes between us and Temporal is small: packing it costs both sides more than
	// the bytes do.
	opts.ConnectionOptions.GrpcCompression = &client.GrpcCompressionNone{}
	opts.Logger = temporallog.NewStructuredLogger(log.With("part", "temporal"))
	c, err := client.NewLazyClient(opts)
	if err != nil {
		return nil, "", fmt.Errorf("temporal client: %w", err)
	}
	return c, opts.Namespace, nil
}

// newCodec encrypts histories, where there are keys for that.
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

func openStore(cfg config.Config, observe func([]email.Event)) (*db.Store, error) {
	return db.Open(cfg.DatabaseURL.Reveal(), db.Options{
		SecretKey:              cfg.SecretKey.Bytes(),
		OldSecretKey:           cfg.OldSecretKey.Bytes(),
		RequireVerifiedDomains: cfg.RequireVerifiedDomains,
		MaxMessageBytes:        cfg.MaxMessageBytes,
		Blocked:                email.Block(cfg.BlockedAttachments),
		Schedule:               delivery.Schedule{Steps: cfg.RetrySchedule, ExpireAfter: cfg.ExpireAfter},
		RecipientRates:         recipientRates(cfg.RecipientRates),
		WebhookSchedule:        cfg.WebhookSchedule,
		WebhookBody:            webhook.Bodies,
		Observe:                observe,
	})
}

// newApp wires everything but the listeners.
func newApp(cfg config.Config, m memory, log *slog.Logger) (*app, error) {
	a := &app{cfg: cfg, log: log, memory: m, turns: &turns.Turns{}}
	a.spool = api.NewSpool(cfg.RequestSpoolDir, max(cfg.RequestSpoolBytes, 2*api.MaxBody(a.cfg.MaxMessageBytes)))
	var err error
	if a.store, err = openStore(cfg, func(es []email.Event) { a.metrics.Observe(es) }); err != nil {
		return nil, err
	}
	if a.codec, err = newCodec(cfg); err != nil {
		return nil, errors.Join(err, a.store.Close())
	}
	if a.temporal, a.namespace, err = temporalClient(log, a.codec); err != nil {
		return nil, errors.Join(err, a.store.Close())
	}
	a.dispatcher = dispatch.New(a.temporal, a.store, log)
	a.readiness = dispatch.NewReadiness(a.dispatcher, a.namespace, dispatch.Version{Deployment: cfg.Deployment, BuildID: a.buildID()})
	var relays []relay.Relay
	for _, raw := range cfg.SMTPURLs {
		r, err := relay.Parse(raw)
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		relays = append(relays, r)
	}
	a.relays = relay.New(relays, relay.Options{Log: log, Ledger: a.store, Board: a.store, MailOf: a.store.MailOf, ProbeEvery: time.Duration(cfg.RelayProbeInterval)})
	a.metrics = metrics.New(a.store, a.relays, cfg.MetricsToken.Reveal(), log)
	a.http = newHTTP(cfg, 0, cfg.AllowPrivateCIDRs)
	a.attachmentURLs = attachment.NewURLs(newHTTP(cfg, attachment.URLTimeout, nil), customerClients(cfg), version)
	resolvers, err := newResolvers(cfg, a.attachmentURLs)
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	a.activities, a.drain, err = activities.New(activities.Deps{
		Acceptor: a.store, Limits: a.limits(),
		Mail: a.store, Gate: a.store, Journal: a.store, Recorder: a.store, Controller: a.store, Deliveries: a.store,
		BatchGate: a.store, BatchMail: a.store, BatchJournal: a.store, BatchController: a.store,
		Relays: relaySessions{a.relays}, Render: renderMessage, Waker: a.dispatcher,
		Resolver:      resolvers,
		Poster:        webhook.NewPoster(a.http, version),
		Log:           log,
		LargeBytes:    m.large,
		AcquireMemory: a.turns.Acquire,
		MapToFile:     func(message []byte) ([]byte, func() error, error) { return a.spool.Map("worker", message) },
	})
	if err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// newResolvers open what attachments refer to, as far as this installation can.
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

// customerClients fetch attachments of customers to whom private networks are opened.
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

// newHTTP calls addresses that customers give; 0 is the timeout for webhooks. private are
// networks that it may reach although they are not public.
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

// limits are those of a message, by whichever door it comes in.
func (a *app) limits() intake.Limits {
	var serves func(delivery.Route) bool
	if len(a.cfg.SMTPURLs) > 0 {
		serves = a.relays.Serves
	}
	return intake.Limits{Serves: serves, MaxRecipients: int(a.cfg.MaxRecipients), MaxMessageBytes: a.cfg.MaxMessageBytes,
		Blocked: email.Block(a.cfg.BlockedAttachments), AllowRelayHeaders: a.cfg.AllowRelayHeaders, CheckURL: a.http.CheckURL, CheckAttachmentURL: a.attachmentURLs.Check, NoRecordings: a.cfg.RecordingURL == ""}
}

// codecPath is where Temporal's UI and CLI have payloads decrypted.
const codecPath = "/codec"

// handler is all that the API's port answers.
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
	return api.New(api.Deps{
		Emails: a.store, Stats: a.store, Events: a.store, Previews: a.store, Batches: a.store, Files: a.store, Dispatcher: a.dispatcher,
		Credentials: a.store, Logins: a.store, Keys: a.store, OwnCustomer: a.store, Customers: a.store, Users: a.store, Domains: a.store, Usage: a.store, Audit: a.store,
		Pauses: a.store, Webhooks: a.store, Mailboxes: a.store,
		Parser: inbound.Parser{}, Render: previewMessage, Ready: a.store.Ready, WorkerReady: workerReady, Metrics: a.metrics, CheckURL: a.http.CheckURL, Log: a.log,
	}, api.Options{
		Limits:   a.limits(),
		TokenKey: derivedKey(a.cfg.SecretKey.Bytes(), loginTokens), OldTokenKey: derivedKey(a.cfg.OldSecretKey.Bytes(), loginTokens),
		SigningKey:  a.store.SealingKey,
		PublicURL:   a.cfg.PublicURL,
		RequestRate: a.cfg.RequestRate, CustomerRequestRate: a.cfg.CustomerRequestRate, MemoryBytes: a.cfg.RequestMemoryBytes, Turns: a.turns, Spool: a.spool, HashesAtOnce: a.memory.hashes, Connections: a.memory.connections, TrustedProxies: a.cfg.TrustedProxies,
		WorkflowURL: workflowURL,
		Home:        a.home(),
	})
}

// home is what GET / tells: in development, where nobody else reaches the port, where the
// Temporal UI and the inbox are.
func (a *app) home() api.Home {
	if !a.cfg.Dev {
		return api.Home{}
	}
	return api.Home{TemporalUI: a.cfg.TemporalUIURL, Inbox: localURL("smtp", a.cfg.InboundListen)}
}

// loginTokens is the purpose of the keys that sign them.
const loginTokens = "login tokens"

// derivedKey makes a key for one purpose of the installation's one secret; nil of none.
func derivedKey(secret []byte, purpose string) []byte {
	if len(secret) == 0 {
		return nil
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("postrider: " + purpose)) // hash.Hash never fails
	return mac.Sum(nil)
}

// services are the parts of a process that run until it ends. The first that
// fails ends all.
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

func (s *services) run(what string, fn func() error) {
	s.wg.Go(func() {
		if err := fn(); err != nil {
			s.mu.Lock()
			s.errs = append(s.errs, fmt.Errorf("%s: %w", what, err))
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

// listen opens a TCP listener; a port in use is named with its setting.
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

// serveHTTP answers on a listener until ctx ends, then lets open requests end.
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

// loadConfig reads the environment for a command.
func loadConfig(use config.Use) (config.Config, error) {
	return config.Load(os.Environ(), use, config.Checks{Relay: func(raw string) error {
		_, err := relay.Parse(raw)
		return err
	}})
}
