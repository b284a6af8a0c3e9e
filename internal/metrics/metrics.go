// Package metrics says in Prometheus' terms what a process has done and what
// waits in the database. Counters are the process's own and begin at 0 with it;
// gauges about the backlog are the installation's, the same from every process.
package metrics

import (
	"context"
	"crypto/subtle"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/membudget"
)

// Store tells what waits.
type Store interface {
	Backlog(ctx context.Context) (delivery.Backlog, error)
	// Waiting tells, by kind, how many calls wait in this process for a transaction.
	Waiting() map[string]int
	// Refused counts, by kind, the calls that were refused because too many were waiting.
	Refused() map[string]int64
}

// Relays tells which relays answered when they were tried last; those that were not tried
// are left out.
type Relays interface {
	Up() map[string]bool
	// Unanswered counts the messages, by relay, whose answer could not be read.
	Unanswered() map[string]int64
	// Held counts the recipients, by relay, whose refusals are held back.
	Held() map[string]int
}

const (
	// readEvery bounds how often scrapes ask the database.
	readEvery   = 5 * time.Second
	readTimeout = 3 * time.Second
)

// Metrics counts events and answers scrapes. Use New.
type Metrics struct {
	accepted   prometheus.Counter
	recipients *prometheus.CounterVec
	completed  *prometheus.CounterVec
	http       http.Handler
	registry   *prometheus.Registry
}

// New makes Metrics over a store that is open and relays, which may be nil where
// a process sends nothing. With a token, scrapes have to bear
// it; without one, they have to come from a loopback address.
func New(store Store, relays Relays, token string, log *slog.Logger) *Metrics {
	m := &Metrics{
		accepted: prometheus.NewCounter(prometheus.CounterOpts{Name: "postrider_emails_accepted_total",
			Help: "E-mails that this process has accepted."}),
		recipients: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_recipient_outcomes_total",
			Help: "Verdicts on recipients that this process has recorded: a recipient is deferred any number of times and ends once."}, []string{"outcome", "reason"}),
		completed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "postrider_emails_completed_total",
			Help: "E-mails whose end this process has recorded, by the detail of their status: none, partial, ambiguous or the common reason."}, []string{"detail"}),
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.accepted, m.recipients, m.completed, &backlog{store: store, log: log}, storeCollector{store},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if relays != nil {
		reg.MustRegister(relayCollector{relays})
	}
	m.registry = reg
	m.http = authorized(token, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return m
}

// ServeHTTP answers a scrape.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.http.ServeHTTP(w, r) }

// Observe counts events that were committed.
func (m *Metrics) Observe(events []email.Event) {
	for _, e := range events {
		switch e.Type {
		case email.EventQueued, email.EventScheduled:
			if e.Sequence == 1 { // a later one is a reschedule
				m.accepted.Inc()
			}
		case email.EventCompleted:
			m.completed.WithLabelValues(string(e.Reason)).Inc()
		case email.EventDeferred, email.EventDelivered, email.EventBounced, email.EventFailed, email.EventExpired, email.EventCanceled, email.EventSuppressed:
			m.recipients.WithLabelValues(strings.TrimPrefix(string(e.Type), "email."), string(e.Reason)).Inc()
		}
	}
}

// authorized lets those scrapes through that bear the token. Without one, only programs
// of this machine scrape: a request from elsewhere, or passed on by a proxy, is refused.
func authorized(token string, h http.Handler) http.Handler {
	want := []byte("Bearer " + token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case token == "" && local(r):
		case token == "":
			http.Error(w, "set POSTRIDER_METRICS_TOKEN: without it, only this machine's programs read /metrics", http.StatusForbidden)
			return
		case subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "this takes the token of POSTRIDER_METRICS_TOKEN: Authorization: Bearer …", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// local reports whether a request comes from a loopback address, and from no proxy there.
func local(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback()
}

var (
	openDesc = prometheus.NewDesc("postrider_emails_open",
		"E-mails that are not finished, by status and detail (scheduled, held, no_relay, relay_down, throttled, partial, deferred, or none).", []string{"status", "detail"}, nil)
	oldestDesc = prometheus.NewDesc("postrider_oldest_open_seconds",
		"Age of the oldest e-mail that is not finished and neither scheduled nor held; 0 where there is none.", nil, nil)
	overdueDesc = prometheus.NewDesc("postrider_overdue_seconds",
		"How late the most overdue e-mail is; above 60 something is stuck; 0 where nothing is late. Mail that waits for a relay is not late.", nil, nil)
	startsDesc = prometheus.NewDesc("postrider_starts_waiting",
		"Accepted e-mails whose run should have begun and has not; growing means that Temporal is away.", nil, nil)
	webhooksDesc = prometheus.NewDesc("postrider_webhooks_waiting", "Webhook deliveries that are not done.", nil, nil)
	circuitsDesc = prometheus.NewDesc("postrider_suppressions_suspended",
		"Recipients' domains, by customer, where so much bounced that nothing is put on suppression lists by itself for an hour.", nil, nil)
	waitingDesc    = prometheus.NewDesc("postrider_store_waiting", "Calls of this process that wait for their transaction, by kind; accept and accept_alone are e-mails that clients wait to have accepted.", []string{"call"}, nil)
	refusedDesc    = prometheus.NewDesc("postrider_store_refused_total", "Calls that this process has refused, with 503 over HTTP, because too many were waiting.", []string{"call"}, nil)
	upDesc         = prometheus.NewDesc("postrider_database_up", "1 if the database answered this scrape, else 0.", nil, nil)
	relayDesc      = prometheus.NewDesc("postrider_relay_up", "1 if the relay answered this process when it was tried last, by mail or by a probe, else 0. Left out until it was tried, and by processes that send no mail.", []string{"relay"}, nil)
	unansweredDesc = prometheus.NewDesc("postrider_relay_unanswered_total", "Messages that the relay has and whose answer this process could not read: each may be sent again, and arrive twice.", []string{"relay"}, nil)
	heldDesc       = prometheus.NewDesc("postrider_relay_refusals_held", "Recipients that the relay has refused in a row, with none accepted between, and that are not bounced because the refusals may be meant for us.", []string{"relay"}, nil)
)

// backlog asks the database at most every few seconds, however often it is scraped.
type backlog struct {
	store Store
	log   *slog.Logger

	mu   sync.Mutex
	at   time.Time
	last delivery.Backlog
	err  error
}

func (b *backlog) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{openDesc, oldestDesc, overdueDesc, startsDesc, webhooksDesc, circuitsDesc, upDesc} {
		ch <- d
	}
}

func (b *backlog) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now, err := b.read()
	if err != nil { // numbers that may be old would look like a calm night
		gauge(upDesc, 0)
		return
	}
	gauge(upDesc, 1)
	for _, o := range now.Open {
		gauge(openDesc, float64(o.Emails), string(o.Status), string(o.Detail))
	}
	gauge(oldestDesc, now.OldestOpen.Seconds())
	gauge(overdueDesc, now.Overdue.Seconds())
	gauge(startsDesc, float64(now.Starts))
	gauge(webhooksDesc, float64(now.Webhooks))
	gauge(circuitsDesc, float64(now.Circuits))
}

func (b *backlog) read() (delivery.Backlog, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.at) < readEvery {
		return b.last, b.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	b.last, b.err = b.store.Backlog(ctx)
	b.at = time.Now()
	if b.err != nil {
		b.log.Warn("metrics.backlog", "error", b.err)
	}
	return b.last, b.err
}

// storeCollector tells what waits inside the process: it asks no database.
type storeCollector struct{ store Store }

func (c storeCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- waitingDesc
	ch <- refusedDesc
}

func (c storeCollector) Collect(ch chan<- prometheus.Metric) {
	for call, n := range c.store.Waiting() {
		ch <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(n), call)
	}
	for call, n := range c.store.Refused() {
		ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.CounterValue, float64(n), call)
	}
}

// Limits tells what waits for a share of the process's memory, and which requests were answered 503.
type Limits struct {
	// Budgets is the state of each part of the memory.
	Budgets func() map[string]membudget.State
	// Unavailable counts the answers of 503, by reason; nil where a process answers no requests.
	Unavailable func() map[string]int64
}

// Watch makes scrapes show limits; those of several calls have different parts.
func (m *Metrics) Watch(l Limits) { m.registry.MustRegister(limitsCollector{l}) }

var (
	memoryUsedDesc    = prometheus.NewDesc("postrider_memory_used", "What is held now of each part of the memory that requests and large messages share, in bytes; of slow_queries, in connections to Postgres.", []string{"part"}, nil)
	memoryTotalDesc   = prometheus.NewDesc("postrider_memory_total", "The size of each part of the memory that requests and large messages share, in bytes; of slow_queries, in connections to Postgres.", []string{"part"}, nil)
	memoryWaitingDesc = prometheus.NewDesc("postrider_memory_waiting", "Requests and messages of this process that wait for a part of the memory.", []string{"part"}, nil)
	memoryRefusedDesc = prometheus.NewDesc("postrider_memory_refused_total", "Requests and messages of this process that got nothing of a part of the memory, because they had waited for too long, or too many of their owner waited.", []string{"part"}, nil)
	unavailableDesc   = prometheus.NewDesc("postrider_http_unavailable_total", "Requests that this process has answered 503, by reason: memory, turn, processor, password, disk, dependency, other.", []string{"reason"}, nil)
)

type limitsCollector struct{ Limits }

// Describe describes nothing: several collectors share the names.
func (limitsCollector) Describe(chan<- *prometheus.Desc) {}

func (c limitsCollector) Collect(ch chan<- prometheus.Metric) {
	for part, s := range c.Budgets() {
		ch <- prometheus.MustNewConstMetric(memoryUsedDesc, prometheus.GaugeValue, float64(s.Used), part)
		ch <- prometheus.MustNewConstMetric(memoryTotalDesc, prometheus.GaugeValue, float64(s.Total), part)
		ch <- prometheus.MustNewConstMetric(memoryWaitingDesc, prometheus.GaugeValue, float64(s.Waiting), part)
		ch <- prometheus.MustNewConstMetric(memoryRefusedDesc, prometheus.CounterValue, float64(s.Refused), part)
	}
	if c.Unavailable == nil {
		return
	}
	for reason, n := range c.Unavailable() {
		ch <- prometheus.MustNewConstMetric(unavailableDesc, prometheus.CounterValue, float64(n), reason)
	}
}

type relayCollector struct{ relays Relays }

func (c relayCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- relayDesc
	ch <- unansweredDesc
	ch <- heldDesc
}

func (c relayCollector) Collect(ch chan<- prometheus.Metric) {
	for name, up := range c.relays.Up() {
		v := 0.0
		if up {
			v = 1
		}
		ch <- prometheus.MustNewConstMetric(relayDesc, prometheus.GaugeValue, v, name)
	}
	for name, n := range c.relays.Unanswered() {
		ch <- prometheus.MustNewConstMetric(unansweredDesc, prometheus.CounterValue, float64(n), name)
	}
	for name, n := range c.relays.Held() {
		ch <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(n), name)
	}
}
