package api_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"github.com/postrider/postrider/api"
	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/inbound"
	"github.com/postrider/postrider/internal/intake"
	"github.com/postrider/postrider/internal/openapitest"
	"github.com/postrider/postrider/internal/render"
	"github.com/postrider/postrider/internal/safehttp"
	"github.com/postrider/postrider/internal/spool"
	"github.com/postrider/postrider/internal/turns"
	"github.com/postrider/postrider/internal/unsubscribe"
	"github.com/postrider/postrider/internal/webhook"
)

func TestMain(m *testing.M) { dbtest.Main(m) }

// bench is an API over a real store, without Temporal.
type bench struct {
	t        testing.TB
	store    *db.DB
	raw      *bun.DB // behind the store's back
	server   *api.Server
	dispatch *dispatcher
	customer account.Customer
	key      string
	// now is the clock of the API and the database.
	now func() time.Time
	// lenient: accepted requests are not compared with the OpenAPI document, because the profile
	// voipbin accepts more than it describes.
	lenient bool
}

// dispatcher records its calls.
type dispatcher struct {
	owner string
	mu    sync.Mutex
	got   []string
	woken chan string
	// orders reads what is to be woken.
	orders interface {
		Wakes(ctx context.Context, ids []string) ([]delivery.Wake, error)
	}
}

func (d *dispatcher) Owner() string { return d.owner }
func (d *dispatcher) Accepted(e email.Email) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, e.ID)
}
func (d *dispatcher) AcceptedBatch(b email.Batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, b.ID)
}

// Wake reports the workflows whose orders the store has.
func (d *dispatcher) Wake(ctx context.Context, orders []string) error {
	if len(orders) == 0 {
		return nil
	}
	wakes, err := d.orders.Wakes(ctx, orders)
	for _, w := range wakes {
		d.woken <- w.WorkflowID
	}
	return err
}

// WakeDomain reports the workflow, if a test waits for it.
func (d *dispatcher) WakeDomain(_ context.Context, id string) error {
	select {
	case d.woken <- email.DomainWorkflowIDPrefix + id:
	default:
	}
	return nil
}

func (d *dispatcher) WakeEndpoint(_ context.Context, id string) error {
	d.woken <- "webhook-" + id
	return nil
}
func (d *dispatcher) accepted() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.got...)
}

// metrics is a stub; the real handler has its own tests.
var metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
})

// stubs returns dependencies for tests that use none of them.
func stubs() api.Deps {
	none, err := db.Open("postgres://nobody@127.0.0.1:1/none", db.Options{SecretKey: make([]byte, 32)})
	if err != nil {
		panic(err)
	}
	return api.Deps{
		Emails: none.Mail, Stats: none.Mail, Events: none.Mail, Previews: none.Mail, Batches: none.Mail, Pauses: none.Mail, Replays: none.Mail, Dispatcher: &dispatcher{},
		Credentials: none.Accounts, Logins: none.Accounts, Keys: none.Accounts, OwnCustomer: none.Accounts, Customers: none.Accounts, Users: none.Accounts,
		Domains: none.Accounts, Reputations: none.Reputation, Suppressions: none.Suppressions, SenderDomains: none.Accounts, Usage: none.Accounts, Audit: none.Accounts, Files: none.Files, Webhooks: none.Webhooks, Mailboxes: none.Mailboxes, Unsubscribing: none.Mail, Parser: inbound.Parser{}, Render: rendered, Ready: func(context.Context) error { return nil }, Metrics: metrics,
		CheckURL: func(string) error { return nil }, Log: slog.New(slog.DiscardHandler),
	}
}

// newServer calls api.New and requires that it succeeds.
func newServer(t testing.TB, deps api.Deps, opts api.Options) *api.Server {
	t.Helper()
	s, err := api.New(deps, opts)
	require.NoError(t, err)
	return s
}

// maxBytes is a small limit of messages, in bytes.
const maxBytes = 1 << 20

func setup(t testing.TB) *bench {
	t.Helper()
	return setupWith(t, maxBytes, 0)
}

// setupWith limits a message to maxBytes, and each credential to requestRate requests per second.
func setupWith(t testing.TB, maxBytes int64, requestRate int) *bench {
	t.Helper()
	return setupFor(t, setupOptions{maxBytes: maxBytes, requestRate: requestRate})
}

type setupOptions struct {
	maxBytes    int64
	requestRate int
	// customerRate is Options.CustomerRequestRate.
	customerRate int
	// proxies is Options.TrustedProxies.
	proxies []netip.Prefix
	// anyDomain lets customers send from domains that are not verified.
	anyDomain bool
	// emails wraps the store of e-mails; nil uses it as it is.
	emails func(api.Emails) api.Emails
	// stats replaces the store of statistics; nil uses it.
	stats api.Stats
	// now is the time at which the API's clock starts and the database's clock stands; zero is the
	// real time.
	now time.Time
	// clock is the clock of the API only; nil is the one above.
	clock func() time.Time
	// logins wraps the store of logins; nil uses it as it is.
	logins func(api.Logins) api.Logins
	// log receives the API's log; nil discards it.
	log io.Writer
	// parser parses received mail; nil is the real one.
	parser api.Parser
	// home is Options.Home.
	home api.Home
	// spool is Options.Spool.
	spool *spool.Pool
	// connections is Options.Connections.
	connections int
	// linkBase is where links in messages lead; empty is nowhere.
	linkBase string
	// memory is Options.MemoryBytes.
	memory int64
	// turns is Options.Turns.
	turns *turns.Turns
	// processors is api.Options.Processors.
	processors *turns.Turns
	// mediumProcessors is api.Options.MediumProcessors.
	mediumProcessors *turns.Turns
}

func setupFor(t testing.TB, o setupOptions) *bench {
	t.Helper()
	url := dbtest.URL(t)
	raw := bun.NewDB(sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(url))), pgdialect.New())
	now := time.Now
	if !o.now.IsZero() {
		began := time.Now()
		now = func() time.Time { return o.now.Add(time.Since(began)) }
		_, err := dbtest.SetUpClock(t.Context(), raw.DB, o.now)
		require.NoError(t, err)
	}
	store, err := db.Open(url, db.Options{SecretKey: make([]byte, 32), RequireVerifiedDomains: !o.anyDomain, MaxMessageBytes: o.maxBytes, PasswordMemory: 64, WebhookBody: webhook.Bodies, LinkBase: o.linkBase})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, raw.Close())
		require.NoError(t, store.Close())
	})
	b := &bench{t: t, store: store, raw: raw, now: now, dispatch: &dispatcher{owner: uuid.NewString(), woken: make(chan string, 100), orders: store.Mail}}
	client := safehttp.New(safehttp.Options{})
	emails := api.Emails(store.Mail)
	if o.emails != nil {
		emails = o.emails(store.Mail)
	}
	if o.stats == nil {
		o.stats = store.Mail
	}
	logins := api.Logins(store.Accounts)
	if o.logins != nil {
		logins = o.logins(store.Accounts)
	}
	log := slog.New(slog.DiscardHandler)
	if o.log != nil {
		log = slog.New(slog.NewJSONHandler(o.log, nil))
	}
	if o.clock == nil {
		o.clock = now
	}
	if o.parser == nil {
		o.parser = inbound.Parser{}
	}
	b.server = newServer(t, api.Deps{
		Emails: emails, Stats: o.stats, Events: store.Mail, Previews: store.Mail, Batches: store.Mail, Pauses: store.Mail, Replays: store.Mail, Dispatcher: b.dispatch,
		Credentials: store.Accounts, Logins: logins, Keys: store.Accounts, OwnCustomer: store.Accounts, Customers: store.Accounts, Users: store.Accounts,
		Domains: store.Accounts, Reputations: store.Reputation, Suppressions: store.Suppressions, SenderDomains: store.Accounts, Usage: store.Accounts, Audit: store.Accounts, Files: store.Files, Webhooks: store.Webhooks, Mailboxes: store.Mailboxes, Unsubscribing: store.Mail, Parser: o.parser, Render: rendered, Ready: store.Ready, Metrics: metrics, CheckURL: client.CheckURL, Log: log,
	}, api.Options{
		Limits:      intake.Limits{LinkBase: o.linkBase, MaxRecipients: email.DefaultMaxRecipients, MaxMessageBytes: o.maxBytes, CheckAttachmentURL: func(_, url string) error { return client.CheckURL(url) }},
		TokenKey:    make([]byte, 32),
		RequestRate: o.requestRate, CustomerRequestRate: o.customerRate, TrustedProxies: o.proxies,
		HashPatience: time.Hour,
		Now:          o.clock,
		WorkflowURL:  func(id string) string { return "http://ui.test/" + id },
		Home:         o.home,
		Spool:        o.spool,
		MemoryBytes:  o.memory,
		Connections:  o.connections,
		Turns:        o.turns,
		Processors:   o.processors, MediumProcessors: o.mediumProcessors,
	})
	b.customer, b.key = b.newCustomer("ACME", "acme.test")
	return b
}

// rendered renders previews, as cmd/postrider does.
func rendered(m email.Message, emailID string, date time.Time, maxContent int) (api.Rendering, error) {
	c := render.Composition{EmailID: emailID, MessageID: email.MessageID(emailID, m.From.Domain()), Date: date}
	if m.Unsubscribe {
		c.UnsubscribeURL = unsubscribe.Preview.URL("https://mail.test", emailID)
	}
	p, err := render.MakePreview(m, c, maxContent)
	return api.Rendering(p), err
}

func (b *bench) newCustomer(name, domain string) (account.Customer, string) {
	b.t.Helper()
	ctx := b.t.Context()
	c, _, err := b.store.Accounts.CreateCustomer(ctx, name, "", "")
	require.NoError(b.t, err)
	_, err = b.store.Accounts.AddDomain(ctx, c.ID, domain, true)
	require.NoError(b.t, err)
	_, key, err := b.store.Accounts.CreateAccessKey(ctx, account.AccessKey{CustomerID: c.ID, Name: "test"})
	require.NoError(b.t, err)
	return c, key
}

var nextAttempt = regexp.MustCompile(`"next_attempt_at": ?"[^"]*"`)

// untimed replaces the times of next attempts in an answer. The time of an attempt that is due is
// the time of the request.
func untimed(body string) string {
	return nextAttempt.ReplaceAllString(body, `"next_attempt_at":"now"`)
}

// answer is an answer of the API.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) decode(t testing.TB, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.body), into), a.body)
}

// field returns a top-level member as a string.
func (a answer) field(t testing.TB, name string) string {
	t.Helper()
	var m map[string]any
	a.decode(t, &m)
	s, _ := m[name].(string)
	return s
}

func (b *bench) call(method, path, body string, headers ...string) answer {
	b.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := httptest.NewRequest(method, path, r)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	b.server.ServeHTTP(rec, req)
	b.check(req, body, rec)
	return answer{rec.Code, rec.Header(), rec.Body.String()}
}

// check compares a request and its answer with the OpenAPI document. Any goroutine may call it.
func (b *bench) check(req *http.Request, sent string, rec *httptest.ResponseRecorder) {
	b.t.Helper()
	contract.once.Do(func() {
		served := httptest.NewRecorder()
		b.server.ServeHTTP(served, httptest.NewRequest("GET", "/openapi.json", nil))
		contract.doc, contract.err = openapitest.Load(served.Body.Bytes())
	})
	if contract.err != nil {
		b.t.Error(contract.err)
		return
	}
	err := contract.doc.Check(openapitest.Exchange{
		Method: req.Method, Target: req.URL.String(), ContentType: req.Header.Get("Content-Type"), Sent: []byte(sent), Lenient: b.lenient,
		Status: rec.Code, Header: rec.Header(), Body: rec.Body.Bytes(),
	})
	if err != nil {
		b.t.Error(err)
	}
}

// contract is the served OpenAPI document, read once for all tests.
var contract struct {
	once sync.Once
	doc  *openapitest.Contract
	err  error
}

// as makes a request with the customer's key.
func (b *bench) as(method, path, body string) answer {
	return b.call(method, path, body, "Authorization", "Bearer "+b.key)
}

const basic = `{"from":{"email":"shop@acme.test","name":"ACME"},"to":[{"email":"bob@x.test","name":"Bob"}],
	"subject":"Your Order","content":{"text":"Thanks","html":"<h1>Thanks</h1>"}}`

// with makes a request with a credential.
func (b *bench) with(key, method, path, body string) answer {
	b.t.Helper()
	return b.call(method, path, body, "Authorization", "Bearer "+key)
}

func (b *bench) adminKey() string {
	b.t.Helper()
	_, key, err := b.store.Accounts.CreateAccessKey(b.t.Context(), account.AccessKey{CustomerID: b.customer.ID, Name: "operator", Scopes: []account.Scope{account.ScopeAdmin}})
	require.NoError(b.t, err)
	return key
}
