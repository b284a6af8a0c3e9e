package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	rest "github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/devstack"
	"github.com/postrider/postrider/internal/smtptest"
)

// TestFaults takes away what Postrider needs while mail is on its way: Temporal,
// Postgres, the relay, its own processes. Mail waits and goes on.
func TestFaults(t *testing.T) {
	t.Parallel()
	g := newGround(t)
	for name, test := range map[string]func(*testing.T, *ground){
		"the API is killed before it could start the runs": theAPIIsKilled,
		"Temporal is away while mail is accepted":          temporalIsAway,
		"Temporal's database is lost":                      temporalIsLost,
		"Postgres is away while mail is sent":              postgresIsAwayBeforeTheDot,
		"Postgres is away when the relay has answered":     postgresIsAwayAfterTheDot,
		"Postgres hangs when the relay has answered":       postgresHangsAfterTheDot,
		"the relay takes 30 s for its answer":              theRelayIsSlow,
		"the relay hangs and is restarted":                 theRelayHangs,
		"the relay is away for long":                       theRelayIsAway,
		"the relays are changed while mail waits":          theRelaysAreChanged,
		"a worker is stopped":                              aWorkerIsStopped,
		"a worker is stopped amid long attempts":           aWorkerIsStoppedLate,
		"a worker is stopped and a relay hangs":            aWorkerIsStoppedByForce,
		"a new version takes over":                         aNewVersion,
		"a rate is kept by two workers":                    aRateIsKept,
		"a newsletter stands back":                         aNewsletterStandsBack,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			test(t, g)
		})
	}
}

// deliveredOnce checks mails against what the peer has.
func deliveredOnce(t *testing.T, d *deployment, peer *smtptest.Peer, mails []sent) {
	t.Helper()
	db := d.sql()
	d.finished(db, patience)
	require.Equal(t, len(mails), d.count(db, "SELECT count(*) FROM emails WHERE status = 'delivered'"))
	for _, m := range mails {
		require.Equal(t, 1, peer.Copies(email.MessageID(m.id, "acme.test"), m.to), m.id)
	}
}

func relayURL(peer *smtptest.Peer) string {
	return "smtp://" + peer.Addr() + "?tls=none&name=peer&max_conns=100"
}

// hole is a way to a server that can be closed: what comes then is accepted and
// never answered, as behind a firewall that drops packets.
type hole struct {
	addr   string
	mu     sync.Mutex
	closed bool
}

func newHole(t *testing.T, to string) *hole {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := &hole{addr: l.Addr().String()}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // the test is over
			}
			t.Cleanup(func() { conn.Close() })
			h.mu.Lock()
			closed := h.closed
			h.mu.Unlock()
			if closed {
				continue
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				conn.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				// Either end may go away at any time; then the other does too.
				_, _ = io.Copy(to, from)
				to.Close()
			}
			go pass(server, conn)
			go pass(conn, server)
		}
	}()
	return h
}

func (h *hole) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

func theAPIIsKilled(t *testing.T, g *ground) {
	peer := (&smtptest.Peer{}).Start(t)
	d := g.deploy(t, relayURL(peer))
	way := newHole(t, g.temporal.Address())
	way.close()
	api := d.startWith([]string{"TEMPORAL_ADDRESS=" + way.addr}, "serve")
	d.eventually("the API answers", func() bool { _, err := d.try("", "health", "--ready"); return err == nil })
	mails := d.post(50)
	require.NoError(t, api.cmd.Process.Kill())
	require.Error(t, api.cmd.Wait(), "it was killed")
	db := d.sql()
	require.Equal(t, 50, d.count(db, "SELECT count(*) FROM outbox"), "no run was started")
	d.worker()
	deliveredOnce(t, d, peer, mails)
	require.Zero(t, d.count(db, "SELECT count(*) FROM outbox"))
}

func temporalIsAway(t *testing.T, g *ground) {
	peer := (&smtptest.Peer{}).Start(t)
	port, err := devstack.FreePort()
	require.NoError(t, err)
	options := devstack.TemporalOptions{Dir: t.TempDir(), Port: port, CLI: filepath.Join(temporalOnPath(t), "temporal"), Headless: true}
	temporal, err := devstack.StartTemporal(t.Context(), options)
	require.NoError(t, err)
	d := newDeployment(t, g.bin, startPostgres(t, devstack.PostgresOptions{}).URL("postgres"), temporal.Address(), relayURL(peer))
	d.settle()
	d.serve()
	worker := d.worker()
	d.eventually("the worker works", func() bool { return strings.Contains(worker.output(), "worker.started") })
	mails, db := d.post(5), d.sql()
	d.finished(db, patience)
	// Runs that wait: for a time, and for the end of a pause.
	d.sendAt = time.Now().Add(24 * time.Hour).UTC()
	scheduled := d.post(3)
	d.sendAt = time.Time{}
	d.run("", "pause", "--reason", "test")
	paused := d.post(3)
	d.eventually("the runs wait", func() bool {
		return d.count(db, "SELECT count(*) FROM outbox") == 0 && d.count(db, "SELECT count(*) FROM emails WHERE paused") == 3
	})
	require.NoError(t, temporal.Stop(t.Context()))
	for _, m := range scheduled {
		_, err := d.client().Reschedule(t.Context(), m.id, time.Now())
		require.NoError(t, err)
	}
	d.run("", "unpause")
	d.eventually("the signals are lost", func() bool {
		return d.count(db, "SELECT count(*) FROM wakes") == 6 && d.count(db, "SELECT count(*) FROM emails WHERE paused") == 0
	})
	mails = append(mails, slices.Concat(scheduled, paused, d.post(100))...)
	for _, m := range mails[11:14] { // steering needs no Temporal
		_, err := d.client().Hold(t.Context(), m.id)
		require.NoError(t, err)
		_, err = d.client().Resume(t.Context(), m.id)
		require.NoError(t, err)
	}
	startTemporal(t, devstack.TemporalOptions{Dir: options.Dir, Port: port})
	deliveredOnce(t, d, peer, mails)
}

// temporalIsLost: every run is gone, and the e-mails are still there.
func temporalIsLost(t *testing.T, g *ground) {
	peer := (&smtptest.Peer{}).Start(t)
	port, err := devstack.FreePort()
	require.NoError(t, err)
	options := devstack.TemporalOptions{Port: port, CLI: filepath.Join(temporalOnPath(t), "temporal"), Headless: true}
	temporal, err := devstack.StartTemporal(t.Context(), options)
	require.NoError(t, err)
	d := newDeployment(t, g.bin, startPostgres(t, devstack.PostgresOptions{}).URL("postgres"), temporal.Address(), relayURL(peer))
	d.settle()
	d.serve()
	d.worker()
	db := d.sql()
	d.sendAt = time.Now().Add(time.Hour).UTC()
	mails := d.post(10)
	d.eventually("the runs wait", func() bool { return d.count(db, "SELECT count(*) FROM outbox") == 0 })
	require.NoError(t, temporal.Stop(t.Context()))
	startTemporal(t, devstack.TemporalOptions{Port: port}) // an empty one
	d.run("", "migrate", "up")
	// An hour and ten minutes pass.
	for _, table := range []string{"emails SET send_at = send_at - interval '70 minutes', next_action_at = next_action_at - interval '70 minutes'",
		"recipients SET next_attempt_at = next_attempt_at - interval '70 minutes'"} {
		_, err := db.ExecContext(t.Context(), "UPDATE "+table)
		require.NoError(t, err)
	}
	deliveredOnce(t, d, peer, mails)
}

// away is how long Postgres is stopped: longer than an exchange tries to write its
// end by itself.
func away() time.Duration {
	if os.Getenv("POSTRIDER_TEST_CHAOS") == "full" {
		return time.Minute
	}
	return 15 * time.Second
}

// withPostgres is a deployment with a Postgres that can be stopped and started.
func withPostgres(t *testing.T, g *ground, peer *smtptest.Peer) (d *deployment, stop, start func()) {
	t.Helper()
	port, err := devstack.FreePort()
	require.NoError(t, err)
	options := devstack.PostgresOptions{Dir: t.TempDir(), Port: port}
	pg, err := devstack.StartPostgres(t.Context(), options)
	require.NoError(t, err)
	stop = func() { require.NoError(t, pg.Stop(context.WithoutCancel(t.Context()))) }
	start = func() { startPostgres(t, options) }
	d = g.deployOn(t, pg.URL("postgres"), relayURL(peer))
	return d, stop, start
}

// postgresIsAway stops Postgres while mails wait in the relay at a line, and starts it again a while
// later. meanwhile runs without Postgres, when the relay has answered. Every mail arrives once.
func postgresIsAway(t *testing.T, g *ground, at string, mails int, meanwhile func(d *deployment, peer *stall)) {
	peer := newStall(at)
	peer.Start(t)
	t.Cleanup(peer.release)
	d, stop, start := withPostgres(t, g, peer.Peer)
	d.serve()
	d.worker()
	sent := d.post(mails)
	d.eventually("all mails wait in the relay", func() bool { return peer.waiting() == mails })
	stop()
	peer.release()
	meanwhile(d, peer)
	pass(t, away())
	start()
	deliveredOnce(t, d, peer.Peer, sent)
}

func postgresIsAwayBeforeTheDot(t *testing.T, g *ground) {
	postgresIsAway(t, g, "RCPT", 50, func(d *deployment, _ *stall) {
		status, header, data := d.call("POST", "/v1.0/emails?accesskey="+d.key, `{"from":{"email":"shop@acme.test"},"to":[{"email":"b@y.test"}],"subject":"s","content":"Hi"}`)
		require.Equal(t, http.StatusServiceUnavailable, status, string(data))
		require.NotEmpty(t, header.Get("Retry-After"), "nothing was accepted, and the client gets a time to come again")
	})
}

func postgresIsAwayAfterTheDot(t *testing.T, g *ground) {
	postgresIsAway(t, g, ".", 20, func(d *deployment, peer *stall) {
		d.eventually("the relay has accepted them", func() bool { return len(peer.Messages()) == 20 })
	})
}

// postgresHangsAfterTheDot: Postgres answers nothing for longer than a lease, and breaks no connection.
// Runs have gone on with another worker than the one that has the relay's answer.
func postgresHangsAfterTheDot(t *testing.T, g *ground) {
	peer := newStall(".")
	peer.Start(t)
	t.Cleanup(peer.release)
	port, err := devstack.FreePort()
	require.NoError(t, err)
	dir := t.TempDir()
	d := g.deployOn(t, startPostgres(t, devstack.PostgresOptions{Dir: dir, Port: port}).URL("postgres"), relayURL(peer.Peer))
	d.serve()
	d.worker()
	d.worker()
	mails := d.post(20)
	d.eventually("all mails wait in the relay", func() bool { return peer.waiting() == 20 })
	c, err := client.Dial(client.Options{HostPort: g.temporal.Address(), Namespace: d.namespace})
	require.NoError(t, err)
	defer c.Close()
	d.eventually("the runs have gone on with activities", func() bool {
		waiting := 0
		for _, m := range mails {
			desc, err := c.DescribeWorkflowExecution(t.Context(), email.WorkflowIDPrefix+m.id, "")
			require.NoError(t, err)
			if len(desc.PendingActivities) == 1 && desc.PendingActivities[0].State == enumspb.PENDING_ACTIVITY_STATE_STARTED {
				waiting++
			}
		}
		return waiting == 20
	})
	signal := signalPostgres(t, filepath.Join(dir, "postgres", "data"))
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { signal(syscall.SIGCONT) }) // it can be stopped
	peer.release()
	d.eventually("the relay has accepted them", func() bool { return len(peer.Messages()) == 20 })
	pass(t, delivery.Lease+5*time.Second)
	signal(syscall.SIGCONT)
	deliveredOnce(t, d, peer.Peer, mails)
	db := d.sql()
	d.eventually("the worker that has the answer has written all that it knows", func() bool {
		return d.count(db, "SELECT count(*) FROM delivery_attempts WHERE transcript IS NULL") == 0
	})
	require.Equal(t, 20, d.count(db, "SELECT count(*) FROM delivery_attempts"))
}

// signalPostgres returns what sends a signal to all processes of a Postgres.
func signalPostgres(t *testing.T, data string) func(syscall.Signal) {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	require.NoError(t, err)
	postmaster, _, _ := strings.Cut(string(file), "\n")
	return func(s syscall.Signal) {
		t.Helper()
		kill := func(pid string) {
			n, err := strconv.Atoi(pid)
			require.NoError(t, err)
			if err := syscall.Kill(n, s); !errors.Is(err, syscall.ESRCH) { // a session that has ended
				require.NoError(t, err)
			}
		}
		kill(postmaster) // it makes no more sessions
		sessions, err := os.ReadFile(fmt.Sprintf("/proc/%s/task/%[1]s/children", postmaster))
		require.NoError(t, err)
		for _, pid := range strings.Fields(string(sessions)) {
			kill(pid)
		}
	}
}

// pass lets a fault last.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

func theRelayIsSlow(t *testing.T, g *ground) {
	peer := newStall(".")
	peer.Start(t)
	t.Cleanup(peer.release)
	d := g.deploy(t, relayURL(peer.Peer))
	d.serve()
	d.worker()
	mails := d.post(1)
	d.eventually("the relay has the message", func() bool { return peer.waiting() == 1 })
	began := time.Now()
	c, err := client.Dial(client.Options{HostPort: g.temporal.Address(), Namespace: d.namespace})
	require.NoError(t, err)
	defer c.Close()
	run := email.WorkflowIDPrefix + mails[0].id
	d.eventually("the attempt is a pending activity", func() bool {
		desc, err := c.DescribeWorkflowExecution(t.Context(), run, "")
		require.NoError(t, err)
		return len(desc.PendingActivities) == 1 && desc.PendingActivities[0].ActivityType.Name == email.ActivitySendSMTP &&
			desc.PendingActivities[0].State == enumspb.PENDING_ACTIVITY_STATE_STARTED
	})
	answer, err := c.QueryWorkflow(t.Context(), run, "", email.QueryStatus)
	require.NoError(t, err)
	var state email.State
	require.NoError(t, answer.Get(&state))
	require.False(t, state.Final)
	pass(t, 30*time.Second-time.Since(began))
	peer.release()
	deliveredOnce(t, d, peer.Peer, mails)
}

func theRelayHangs(t *testing.T, g *ground) {
	peer := newStall("MAIL")
	peer.Start(t)
	t.Cleanup(peer.release)
	d := g.deploy(t, relayURL(peer.Peer))
	d.serve()
	d.worker()
	mails := d.post(20)
	d.eventually("all mails hang", func() bool { return peer.waiting() == 20 })
	peer.Hangup()
	peer.release()
	deliveredOnce(t, d, peer.Peer, mails)
	require.Zero(t, d.count(d.sql(), "SELECT count(*) FROM email_events WHERE type IN ('email.bounced', 'email.failed')"), "no recipient is to blame")
}

// theRelayIsAway: mail that waits does not ask for hours, and follows as soon as the relay is back.
func theRelayIsAway(t *testing.T, g *ground) {
	var back atomic.Bool
	peer := (&smtptest.Peer{Answer: func(line string) string {
		if !back.Load() && strings.HasPrefix(line, "EHLO") {
			return "421 4.3.2 Service shutting down"
		}
		return ""
	}}).Start(t)
	d := g.deploy(t, relayURL(peer))
	d.serve()
	d.worker()
	d.worker()
	mails := d.post(40)
	c, err := client.Dial(client.Options{HostPort: g.temporal.Address(), Namespace: d.namespace})
	require.NoError(t, err)
	defer c.Close()
	d.eventually("no run asks soon", func() bool {
		for _, m := range mails {
			desc, err := c.DescribeWorkflowExecution(t.Context(), email.WorkflowIDPrefix+m.id, "")
			if err != nil { // it has not been started
				return false
			}
			waiting := desc.GetPendingActivities()
			if len(waiting) != 1 || waiting[0].GetState() != enumspb.PENDING_ACTIVITY_STATE_SCHEDULED || time.Until(waiting[0].GetScheduledTime().AsTime()) < time.Hour {
				return false
			}
		}
		return true
	})
	back.Store(true)
	deliveredOnce(t, d, peer, mails)
}

// aRateIsKept: 2 transactions per second from all workers together, at a relay or for a
// recipients' domain. The workers start when all runs wait for them, so that a busy machine
// sends faster than the rate, too.
func aRateIsKept(t *testing.T, g *ground) {
	for name, c := range map[string]struct {
		relay   string
		setting []string
		early   time.Duration
	}{
		"of a relay":              {relay: "&rate=2/s"},
		"of a recipients' domain": {setting: []string{"POSTRIDER_RECIPIENT_RATES=y.test=2/s"}, early: 500 * time.Millisecond},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			peer, at := timedPeer(t)
			d := g.deploy(t, relayURL(peer)+c.relay, c.setting...)
			d.serve()
			mails, db := d.post(40), d.sql()
			began := time.Now()
			d.worker()
			d.worker()
			require.Eventually(t, func() bool {
				return d.count(db, "SELECT count(*) FROM emails WHERE status_detail = 'throttled'") > 0
			}, patience, 50*time.Millisecond, "the e-mails say what they wait for")
			deliveredOnce(t, d, peer, mails)
			times := at()
			require.Len(t, times, 40, "nobody is sent twice for that")
			for i, at := range times {
				// However late a place is used, it is not used before its time, but for half a
				// second that the first ones may share.
				require.Greater(t, at.Sub(began), time.Duration(i)*500*time.Millisecond-500*time.Millisecond-c.early, "number %d", i)
			}
		})
	}
}

// timedPeer notes when transactions begin.
func timedPeer(t *testing.T) (*smtptest.Peer, func() []time.Time) {
	t.Helper()
	var mu sync.Mutex
	var at []time.Time
	peer := (&smtptest.Peer{Answer: func(line string) string {
		if strings.HasPrefix(line, "MAIL") {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
		}
		return ""
	}}).Start(t)
	return peer, func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(at)
	}
}

// aNewsletterStandsBack: a transactional e-mail does not wait for a newsletter that waits
// for a rate. The rate is so slow that three quarters of the newsletter take minutes: the
// order of deliveries proves it on any machine. The rest of the newsletter is canceled.
func aNewsletterStandsBack(t *testing.T, g *ground) {
	for name, c := range map[string]struct {
		relay   string
		setting []string
	}{
		"at a relay":              {relay: "&rate=30/m"},
		"at a recipients' domain": {setting: []string{"POSTRIDER_RECIPIENT_RATES=y.test=30/m"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			peer := (&smtptest.Peer{}).Start(t)
			d := g.deploy(t, relayURL(peer)+c.relay, c.setting...)
			d.serve()
			d.worker()
			d.stream = email.StreamBroadcast
			mails, db := d.post(150), d.sql()
			require.Eventually(t, func() bool {
				return d.count(db, "SELECT count(*) FROM emails WHERE status_detail = 'throttled'") > len(mails)/2
			}, patience, 20*time.Millisecond, "the newsletter waits")
			m, err := d.client().Send(t.Context(), rest.Message{From: rest.Address{Email: "shop@acme.test"}, To: []rest.Address{{Email: "now@y.test"}}, Subject: "s", Content: rest.Content{Text: "Hi"}})
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				return peer.Copies(email.MessageID(m.ID, "acme.test"), "now@y.test") == 1
			}, patience, 5*time.Millisecond)
			require.Less(t, len(peer.Messages()), len(mails)*3/4, "behind the newsletter it would have been the last")

			for _, m := range mails {
				_, err := d.client().Cancel(t.Context(), m.id)
				if conflict, ok := errors.AsType[*rest.Error](err); ok && conflict.Status == http.StatusConflict {
					continue // it is delivered
				}
				require.NoError(t, err)
			}
			d.finished(db, patience)
			for _, m := range mails {
				got, err := d.client().Get(t.Context(), m.id)
				require.NoError(t, err)
				want := map[email.Status]int{email.StatusDelivered: 1, email.StatusCanceled: 0}
				require.Contains(t, want, got.Status)
				require.Equal(t, want[got.Status], peer.Copies(email.MessageID(m.id, "acme.test"), m.to), m.id)
			}
		})
	}
}
