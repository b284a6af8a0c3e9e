package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun/driver/pgdriver"
	"go.temporal.io/api/workflowservice/v1"
	temporal "go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/smtptest"
)

// point is a moment of an SMTP transaction that a fault is to hit. It is reached
// from outside: the peer stops answering there, or a lock in Postgres holds what
// comes next.
type point struct {
	name string
	// stallAt is the command that the peer lets wait for its answer; "." is the
	// final dot.
	stallAt string
	// table is locked: before the worker starts, or once all wait at stallAt, which
	// then get their answer.
	table, mode string
	// ambiguous: between the final dot and the record of the answer.
	ambiguous bool
}

var points = []point{
	{name: "before dialling", table: "emails", mode: "ACCESS EXCLUSIVE"},
	{name: "after MAIL", stallAt: "MAIL"},
	{name: "after RCPT", stallAt: "RCPT"},
	{name: "inside DATA", stallAt: "DATA", table: "delivery_attempts", mode: "SHARE"},
	{name: "after the dot, before 250", stallAt: ".", ambiguous: true},
	{name: "after 250, before the commit", stallAt: ".", table: "delivery_attempts", mode: "SHARE", ambiguous: true},
}

const (
	kill   = "kill -9"
	freeze = "SIGSTOP"
)

// TestChaos hits a real worker at each point, with many mails in flight, and
// counts at a peer that is not ours: nothing is lost, and nothing comes twice but
// at the two points where that cannot be known, and not there with
// on_ambiguous=fail. `make chaos` runs it in full.
func TestChaos(t *testing.T) {
	t.Parallel()
	full := os.Getenv("POSTRIDER_TEST_CHAOS") == "full"
	ground := newGround(t)
	type fault struct {
		point
		what  string
		batch bool
	}
	var faults []fault
	for _, batch := range []bool{false, true} {
		for _, p := range points {
			faults = append(faults, fault{p, kill, batch}, fault{p, freeze, batch})
		}
	}
	// A frozen worker has lost its workflow tasks after 10 s, and its attempts after their leases and a
	// recall.
	mails, frozen := 200, delivery.Lease+delivery.RecallTime+15*time.Second
	if !full {
		mails, frozen = 20, 15*time.Second
		faults = []fault{{points[2], kill, false}, {points[5], kill, false}, {points[1], freeze, false}, {points[2], kill, true}, {points[5], kill, true}}
	}
	slots := make(chan struct{}, 4) // most of the time they wait for leases to run out
	var mu sync.Mutex
	var rows []string
	t.Cleanup(func() {
		fmt.Printf("\n%-30s %-8s %-6s %5s %9s %9s %5s %6s %5s\n%s", "point", "fault", "sent", "mails", "delivered", "ambiguous", "lost", "twice", "s", strings.Join(rows, ""))
	})
	for _, f := range faults {
		way := "singly"
		if f.batch {
			way = "batch"
		}
		t.Run(f.name+"/"+f.what+"/"+way, func(t *testing.T) {
			t.Parallel()
			slots <- struct{}{}
			defer func() { <-slots }()
			began := time.Now()
			c := ground.newCase(t, f.point, mails, f.batch)
			c.strike(f.what, frozen)
			n := c.judge()
			mu.Lock()
			defer mu.Unlock()
			rows = append(rows, fmt.Sprintf("%-30s %-8s %-6s %5d %9d %9d %5d %6d %5.0f\n", f.name, f.what, way, mails, n.delivered, n.ambiguous, n.lost, n.twice, time.Since(began).Seconds()))
		})
	}
}

// ground is what cases share: the binary and a Temporal server, where each has a
// namespace of its own.
type ground struct {
	bin      string
	temporal *devstack.Temporal
}

func newGround(t testing.TB) *ground {
	t.Helper()
	return &ground{bin: binary(t), temporal: startTemporal(t, devstack.TemporalOptions{})}
}

// deploy makes a database, a namespace and a customer.
func (g *ground) deploy(t testing.TB, relays string, extra ...string) *deployment {
	t.Helper()
	return g.deployOn(t, startPostgres(t, devstack.PostgresOptions{}).URL("postgres"), relays, extra...)
}

func (g *ground) deployOn(t testing.TB, database, relays string, extra ...string) *deployment {
	t.Helper()
	namespace := "case-" + uuid.NewString()
	namespaces, err := temporal.NewNamespaceClient(temporal.Options{HostPort: g.temporal.Address()})
	require.NoError(t, err)
	defer namespaces.Close()
	require.NoError(t, namespaces.Register(t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour)}))
	d := newDeployment(t, g.bin, database, g.temporal.Address(), relays, append([]string{"TEMPORAL_NAMESPACE=" + namespace}, extra...)...)
	d.namespace = namespace
	d.settle()
	return d
}

// settle migrates, and makes the customer ACME with its key in d.key.
func (d *deployment) settle() {
	d.t.Helper()
	d.eventually("the namespace is known everywhere", func() bool {
		_, err := d.try("", "migrate", "up")
		return err == nil
	})
	d.run("", "customer", "create", "--name", "ACME")
	d.run("", "domain", "add", "acme.test", "--customer", "ACME", "--verified")
	d.key = d.run("", "key", "create", "--customer", "ACME")
}

// serve starts the API and waits until it answers.
func (d *deployment) serve() *daemon {
	d.t.Helper()
	api := d.start("serve")
	d.eventually("the API answers", func() bool { _, err := d.try("", "health", "--ready"); return err == nil })
	return api
}

// worker starts a worker with a port of its own.
func (d *deployment) worker() *daemon {
	d.t.Helper()
	return d.startWith([]string{"POSTRIDER_HEALTH_LISTEN=" + freeAddress(d.t)}, "worker")
}

// sent is a mail that was accepted.
type sent struct {
	id, to string
	policy email.OnAmbiguous
}

// post has n mails accepted, some at a time, every other with on_ambiguous=fail.
func (d *deployment) post(n int) []sent {
	d.t.Helper()
	api, out := d.client(), make([]sent, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range out {
		out[i] = sent{to: fmt.Sprintf("r%d@y.test", i), policy: []email.OnAmbiguous{email.AmbiguousRetry, email.AmbiguousFail}[i%2]}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			m, err := api.Send(d.t.Context(), client.Message{
				From: client.Address{Email: "shop@acme.test"}, To: []client.Address{{Email: out[i].to}},
				Subject: "s", Content: client.Content{Text: "Hi"}, OnAmbiguous: out[i].policy, SendAt: d.sendAt, Stream: d.stream,
			})
			if err != nil {
				d.t.Error(err)
			}
			out[i].id = m.ID
		})
	}
	wg.Wait()
	require.False(d.t, d.t.Failed(), "every mail is accepted")
	return out
}

// sql opens the deployment's database to look into it, or to stand in its way.
func (d *deployment) sql() *sql.DB {
	db := sql.OpenDB(pgdriver.NewConnector(pgdriver.WithDSN(d.database)))
	d.t.Cleanup(func() { require.NoError(d.t, db.Close()) })
	return db
}

func (d *deployment) count(db *sql.DB, query string, args ...any) int {
	d.t.Helper()
	var n int
	require.NoError(d.t, db.QueryRowContext(d.t.Context(), query, args...).Scan(&n))
	return n
}

// finished waits until every e-mail is.
func (d *deployment) finished(db *sql.DB, within time.Duration) {
	d.t.Helper()
	require.Eventually(d.t, func() bool {
		return d.count(db, "SELECT count(*) FROM emails WHERE status IN ('queued', 'sending')") == 0
	}, within, 200*time.Millisecond, "every e-mail comes to its end")
}

// stall is a peer that keeps a command waiting until opened.
type stall struct {
	*smtptest.Peer
	open chan struct{}
	once sync.Once
	mu   sync.Mutex
	at   int
}

// release answers the clients that wait; later ones do not wait.
func (s *stall) release() { s.once.Do(func() { close(s.open) }) }

// newStall makes a peer that is not listening yet.
func newStall(command string) *stall {
	s := &stall{open: make(chan struct{})}
	s.Peer = &smtptest.Peer{Extensions: []string{"PIPELINING"}, Answer: func(line string) string {
		if command == "" || !strings.HasPrefix(line, command) {
			return ""
		}
		s.mu.Lock()
		s.at++
		s.mu.Unlock()
		<-s.open
		return ""
	}}
	return s
}

// waiting is how many have come to the point.
func (s *stall) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// chaosCase is many mails on their way to a point.
type chaosCase struct {
	*deployment
	t     *testing.T
	point point
	peer  *stall
	db    *sql.DB
	mails []sent
	// crowd is how many of them come to the point, statements how many then wait for
	// the lock: a batch has so many sessions, and writes for many at once.
	crowd, statements int
}

func (g *ground) newCase(t *testing.T, p point, mails int, batch bool) *chaosCase {
	t.Helper()
	c := &chaosCase{t: t, point: p, peer: newStall(p.stallAt), crowd: mails, statements: min(mails, 10)}
	if p.table == "delivery_attempts" {
		c.statements = 1 // the journal is written for many at once
	}
	c.peer.Start(t)
	t.Cleanup(c.peer.release) // before the peer is closed, which waits for its conversations
	c.deployment = g.deploy(t, fmt.Sprintf("smtp://%s?tls=none&name=peer&max_conns=%d", c.peer.Addr(), mails))
	c.db = c.sql()
	c.serve()
	if batch {
		c.crowd, c.statements = 8, 1
		c.mails = c.postBatch(mails)
	} else {
		c.mails = c.post(mails)
	}
	return c
}

// postBatch has n mails accepted in one request, every other with on_ambiguous=fail.
func (d *deployment) postBatch(n int) []sent {
	d.t.Helper()
	out, messages := make([]sent, n), make([]map[string]any, n)
	for i := range out {
		out[i] = sent{to: fmt.Sprintf("r%d@y.test", i), policy: []email.OnAmbiguous{email.AmbiguousRetry, email.AmbiguousFail}[i%2]}
		messages[i] = map[string]any{"from": map[string]any{"email": "shop@acme.test"}, "to": []any{map[string]any{"email": out[i].to}},
			"subject": "s", "content": "Hi", "on_ambiguous": out[i].policy}
	}
	body, err := json.Marshal(map[string]any{"messages": messages})
	require.NoError(d.t, err)
	status, _, got := d.call(http.MethodPost, "/v1.0/emails/batch?accesskey="+d.key, string(body))
	var answer struct {
		Items []struct {
			Index int
			ID    string
		}
	}
	require.Equal(d.t, http.StatusAccepted, status, string(got))
	require.NoError(d.t, json.Unmarshal(got, &answer))
	require.Len(d.t, answer.Items, n)
	for _, it := range answer.Items {
		out[it.Index].id = it.ID
	}
	return out
}

// strike brings the mails to the point and hits the worker there. Another worker
// takes over.
func (c *chaosCase) strike(what string, frozen time.Duration) {
	c.t.Helper()
	unlock := func() {}
	if c.point.stallAt == "" {
		unlock = c.lock()
	}
	victim := c.worker()
	if c.point.stallAt != "" {
		c.eventually("all mails come to the point", func() bool { return c.peer.waiting() >= c.crowd })
	}
	if c.point.stallAt != "" && c.point.table != "" {
		unlock = c.lock()
		c.peer.release()
	}
	if c.point.table != "" {
		c.eventually("the worker waits for the lock", func() bool { return c.blocked() >= c.statements })
	}
	if c.point.ambiguous && c.point.table != "" {
		c.eventually("all mails are accepted", func() bool { return len(c.peer.Messages()) >= c.crowd })
	}
	if what == freeze {
		require.NoError(c.t, victim.cmd.Process.Signal(syscall.SIGSTOP))
	} else {
		require.NoError(c.t, victim.cmd.Process.Kill())
		require.Error(c.t, victim.cmd.Wait(), "it was killed")
		// Its statements would still be carried out when the lock is gone.
		c.count(c.db, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'postrider' AND wait_event_type = 'Lock'")
	}
	c.worker()
	unlock()
	c.peer.release()
	if what == freeze {
		select {
		case <-time.After(frozen): // the fault itself
		case <-c.t.Context().Done():
		}
		require.NoError(c.t, victim.cmd.Process.Signal(syscall.SIGCONT))
	}
	c.finished(c.db, 5*time.Minute)
	if what == freeze {
		victim.stop(c.t)
	}
}

// lock takes the point's table until the returned function is called.
func (c *chaosCase) lock() (unlock func()) {
	c.t.Helper()
	ctx := context.WithoutCancel(c.t.Context())
	tx, err := c.db.BeginTx(ctx, nil)
	require.NoError(c.t, err)
	_, err = tx.ExecContext(ctx, "LOCK TABLE "+c.point.table+" IN "+c.point.mode+" MODE")
	require.NoError(c.t, err)
	return func() { require.NoError(c.t, tx.Rollback()) }
}

// blocked is how many statements of ours wait for a lock.
func (c *chaosCase) blocked() int {
	return c.count(c.db, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postrider' AND wait_event_type = 'Lock'")
}

// counts is what became of the mails.
type counts struct{ delivered, ambiguous, lost, twice int }

// judge compares what we say with what the peer has.
func (c *chaosCase) judge() (n counts) {
	c.t.Helper()
	for _, m := range c.mails {
		var status, detail string
		require.NoError(c.t, c.db.QueryRowContext(c.t.Context(), "SELECT status, status_detail FROM emails WHERE id = $1", m.id).Scan(&status, &detail))
		copies := c.peer.Copies(email.MessageID(m.id, "acme.test"), m.to)
		switch {
		case status == "delivered":
			n.delivered++
			if copies == 0 {
				n.lost++
				c.t.Errorf("%s is called delivered, and never came", m.id)
			}
		case status == "failed" && detail == "ambiguous" && m.policy == email.AmbiguousFail && (c.point.ambiguous || c.point.name == "inside DATA"):
			n.ambiguous++
		default:
			c.t.Errorf("%s is %s %s", m.id, status, detail)
		}
		if copies > 1 {
			n.twice += copies - 1
			if m.policy == email.AmbiguousFail || !c.point.ambiguous || copies > 2 {
				c.t.Errorf("%s with on_ambiguous=%s came %d times", m.id, m.policy, copies)
			}
		}
	}
	return n
}
