package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
)

// expiring is a message to one recipient that expires that long after the start.
func (v *virtual) expiring(after time.Duration) email.Message {
	m := email.Message{From: email.Address{Email: "shop@acme.test"}, Subject: "Hello", Text: "Hi", OnAmbiguous: email.AmbiguousRetry,
		To: []email.Address{{Email: "a@x.test"}}}
	if after > 0 {
		m.ExpiresAt = virtualStart.Add(after)
	}
	return m
}

// acceptBatch stores messages as a batch.
func (v *virtual) acceptBatch(ms ...email.Message) (batchID string, ids []string) {
	v.t.Helper()
	b, items, _, err := v.store.Mail.AcceptBatch(v.t.Context(), v.customer, email.BatchRequest{
		Mode: email.BatchStrict, Len: len(ms), Message: func(i int) (email.Message, error) { return ms[i], nil },
		Place: func(i int) string { return fmt.Sprint("/", i) }, Sender: func(i int) string { return fmt.Sprint("/", i) },
	}, uuid.NewString(), email.Idempotency{})
	require.NoError(v.t, err)
	for _, it := range items {
		ids = append(ids, it.EmailID)
	}
	return b.ID, ids
}

func (v *virtual) sendBatch(id string) {
	v.t.Helper()
	v.ExecuteWorkflow(email.WorkflowSendBatch, email.SendBatchInput{BatchID: id})
	require.True(v.t, v.IsWorkflowCompleted())
	require.NoError(v.t, v.GetWorkflowError())
}

// requireExpired: an e-mail ended as expired at that time, and nothing else was said of it.
func (v *virtual) requireExpired(id string, at time.Duration) {
	v.t.Helper()
	e := v.email(id)
	require.Equal(v.t, []any{email.StatusFailed, email.DetailExpired}, []any{e.Status, e.Detail})
	for _, r := range e.Recipients {
		require.Equal(v.t, []any{email.RecipientExpired, email.DetailExpired}, []any{r.Status, r.Reason})
	}
	require.Empty(v.t, v.happened(id, email.EventDelivered, email.EventDeferred, email.EventFailed, email.EventBounced))
	got := v.happened(id, email.EventExpired, email.EventCompleted)
	require.Len(v.t, got, 2)
	for _, when := range got {
		require.GreaterOrEqual(v.t, when, at)
		require.LessOrEqual(v.t, when, at+slack)
	}
}

// expiries lie between the tries of a relay, which come at 10, 30, 70, 150, 310, 610 … s. No timer
// of other mail is near, so that a slow activity does not let it fire.
var expiries = []time.Duration{4 * time.Second, 50 * time.Second, 230 * time.Second, 460 * time.Second, 52*time.Minute + 33*time.Second}

// outages keep mail waiting for a relay, each in its own way.
var outages = map[string]func(v *virtual, lasts time.Duration){
	"a closed port": func(v *virtual, lasts time.Duration) {
		addr, open := closedPort(v.t)
		v.connect("", addr)
		v.RegisterDelayedCallback(func() { v.listen(open(), "", until(0, "", "")) }, lasts)
	},
	"credentials refused": func(v *virtual, lasts time.Duration) {
		v.listen(nil, "shop", until(lasts, "AUTH", "535 5.7.8 wrong credentials"))
		v.connect("shop", v.peer.Addr())
	},
	"MAIL refused": func(v *virtual, lasts time.Duration) {
		v.listen(nil, "", until(lasts, "MAIL", "452 4.3.1 Insufficient system storage"))
		v.connect("", v.peer.Addr())
	},
	"two relays": func(v *virtual, lasts time.Duration) {
		v.listen(nil, "", until(lasts, "MAIL", "452 4.3.1 Insufficient system storage"))
		addr, _ := closedPort(v.t)
		var list []relay.Relay
		for _, u := range []string{addr + "?tls=none&name=closed", v.peer.Addr() + "?tls=none&name=full"} {
			r, err := relay.Parse("smtp://" + u)
			require.NoError(v.t, err)
			list = append(list, r)
		}
		relays := relay.New(list, relay.Options{Now: v.Now, Board: v.store.Mail, MailOf: v.store.Mail.MailOf})
		v.t.Cleanup(relays.Close)
		v.work(relaySessions{relays})
	},
}

// TestVirtualMailThatWaitsForARelayEndsAtItsExpiry: not at the relay's next try, which comes up
// to five minutes later. The other mail is sent after the outage.
func TestVirtualMailThatWaitsForARelayEndsAtItsExpiry(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lasts = 2 * time.Hour
			v := newVirtual(t)
			outage(v, lasts)
			var ids []string
			for _, after := range append(slices.Clone(expiries), 0, 3*time.Hour) {
				e, _, err := v.store.Mail.Accept(t.Context(), v.customer, v.expiring(after), uuid.NewString(), email.Idempotency{})
				require.NoError(t, err)
				ids = append(ids, e.ID)
			}
			v.send(ids...)
			for i, at := range expiries {
				v.requireExpired(ids[i], at)
			}
			v.requireDelivered(lasts, lasts+6*time.Minute, ids[len(expiries):]...)
		})
	}
}

// The same holds for a batch, whose e-mails wait together.
func TestVirtualABatchThatWaitsForARelayEndsItsMailAtItsExpiry(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const lasts = 2 * time.Hour
			v := newVirtual(t)
			outage(v, lasts)
			var ms []email.Message
			for _, after := range append(slices.Clone(expiries), 0, 3*time.Hour) {
				ms = append(ms, v.expiring(after))
			}
			// It is due in the outage, and expires in it.
			later := v.expiring(31*time.Minute + 11*time.Second)
			later.SendAt = virtualStart.Add(31 * time.Minute)
			batch, ids := v.acceptBatch(append(ms, later)...)
			v.sendBatch(batch)
			for i, at := range expiries {
				v.requireExpired(ids[i], at)
			}
			v.requireExpired(ids[len(ids)-1], 31*time.Minute+11*time.Second)
			v.requireDelivered(lasts, lasts+6*time.Minute, ids[len(expiries):len(ids)-1]...)
		})
	}
}

// A batch of which nothing is left to send has ended, however long the relay stays away.
func TestVirtualABatchThatHasExpiredWaitsForNoRelay(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.listen(nil, "", until(virtualDay, "MAIL", "452 4.3.1 Insufficient system storage"))
	v.connect("", v.peer.Addr())
	const expiry = 17*time.Minute + 33*time.Second
	batch, ids := v.acceptBatch(v.expiring(expiry), v.expiring(expiry), v.expiring(expiry/2))
	v.sendBatch(batch)
	for i, at := range []time.Duration{expiry, expiry, expiry / 2} {
		v.requireExpired(ids[i], at)
	}
	require.LessOrEqual(t, v.Now().Sub(virtualStart), expiry+2*slack, "the run has ended")
}

// standing are what mail waits for while its relay works.
var standing = map[string]func(v *virtual){
	"a rate": func(v *virtual) {
		v.listen(nil, "", until(0, "", ""))
		v.connectSlow("6/h")
	},
	"the end of a pause, and a relay": func(v *virtual) {
		_, err := v.store.Mail.Pause(v.t.Context(), email.Pause{Scope: email.PauseInstallation})
		require.NoError(v.t, err)
		outages["MAIL refused"](v, 5*time.Minute)
	},
}

// TestVirtualMailThatWaitsForARelayThatWorksEndsAtItsExpiry, singly and in a batch.
func TestVirtualMailThatWaitsForARelayThatWorksEndsAtItsExpiry(t *testing.T) {
	t.Parallel()
	for name, wait := range standing {
		for _, batched := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, in a batch %t", name, batched), func(t *testing.T) {
				t.Parallel()
				v := newVirtual(t)
				wait(v)
				ms := []email.Message{v.expiring(40 * time.Minute), v.expiring(40 * time.Minute), v.expiring(40 * time.Minute)}
				at := []time.Duration{7*time.Minute + 7*time.Second, 8*time.Minute + 9*time.Second, 13*time.Minute + 3*time.Second}
				for _, after := range at {
					m := v.expiring(after)
					m.SendAt = virtualStart.Add(3 * time.Second) // the others are first
					ms = append(ms, m)
				}
				var ids []string
				if batched {
					var batch string
					batch, ids = v.acceptBatch(ms...)
					v.sendBatch(batch)
				} else {
					for _, m := range ms {
						e, _, err := v.store.Mail.Accept(t.Context(), v.customer, m, uuid.NewString(), email.Idempotency{})
						require.NoError(t, err)
						ids = append(ids, e.ID)
					}
					v.send(ids...)
				}
				for i, after := range at {
					v.requireExpired(ids[3+i], after)
				}
				heard := v.received("MAIL")
				for i := range heard[:max(len(heard)-1, 0)] {
					if name == "a rate" {
						require.Greater(t, heard[i+1]-heard[i], 10*time.Minute-2*slack, "nobody is sooner for having asked again")
					}
				}
			})
		}
	}
}

// fewSteps is more activities than held mail needs here. A run that asks again and again starts
// far more.
const fewSteps = 60

// at carries something out that long after the start.
func (v *virtual) at(when time.Duration, do func() error) {
	v.RegisterDelayedCallback(func() { require.NoError(v.t, do()) }, when)
}

// hold holds an e-mail for its customer, and wakes its run if it has one.
func (v *virtual) hold(id string, wake bool) error {
	if _, _, err := v.store.Mail.ControlFor(v.t.Context(), v.customer, id, email.Control{Action: email.ActionHold}); err != nil || !wake {
		return err
	}
	return v.SignalWorkflowByID(email.WorkflowIDPrefix+id, email.SignalWake, nil)
}

// holdBatch holds a batch as a whole, and wakes its run if it has one.
func (v *virtual) holdBatch(id string, wake bool) error {
	if _, err := v.store.Mail.ControlBatch(v.t.Context(), id, email.ActionHold); err != nil {
		return err
	}
	if wake {
		v.SignalWorkflow(email.SignalWake, nil)
	}
	return nil
}

// TestVirtualHeldMailEndsAtItsExpiry: a run that never asked the gate before the hold ends it too.
func TestVirtualHeldMailEndsAtItsExpiry(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sendAt time.Duration
		hold   func(v *virtual, id string) error
	}{
		"held before its run starts":             {hold: func(v *virtual, id string) error { return v.hold(id, false) }},
		"held before its run starts, sent later": {sendAt: 40 * time.Second, hold: func(v *virtual, id string) error { return v.hold(id, false) }},
		"held before send_at": {sendAt: 40 * time.Second, hold: func(v *virtual, id string) error {
			v.at(10*time.Second, func() error { return v.hold(id, true) })
			return nil
		}},
		"held before send_at, its run is not woken": {sendAt: 40 * time.Second, hold: func(v *virtual, id string) error {
			v.at(10*time.Second, func() error { return v.hold(id, false) })
			return nil
		}},
		"held by an operator": {sendAt: 40 * time.Second, hold: func(v *virtual, id string) error {
			v.at(10*time.Second, func() error { return v.SignalWorkflowByID(email.WorkflowIDPrefix+id, string(email.ActionHold), nil) })
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const expiry = 61*time.Minute + 7*time.Second
			v := newVirtual(t)
			v.listen(nil, "", until(0, "", ""))
			v.connect("", v.peer.Addr())
			m := v.expiring(expiry)
			if tc.sendAt > 0 {
				m.SendAt = virtualStart.Add(tc.sendAt)
			}
			e, _, err := v.store.Mail.Accept(t.Context(), v.customer, m, uuid.NewString(), email.Idempotency{})
			require.NoError(t, err)
			require.NoError(t, tc.hold(v, e.ID))
			v.send(e.ID)
			v.requireExpired(e.ID, expiry)
			require.Empty(t, v.received("MAIL"))
			require.Less(t, v.steps, fewSteps, "its run waits")
		})
	}
}

// TestVirtualAHeldBatchEndsItsMailAtItsExpiry: each of its e-mails at its own time.
func TestVirtualAHeldBatchEndsItsMailAtItsExpiry(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sendAt time.Duration
		outage string
		hold   func(v *virtual, id string) error
	}{
		"held before its run starts": {hold: func(v *virtual, id string) error { return v.holdBatch(id, false) }},
		"held before send_at": {sendAt: 40 * time.Second, hold: func(v *virtual, id string) error {
			v.at(10*time.Second, func() error { return v.holdBatch(id, true) })
			return nil
		}},
		"held before send_at, its run is not woken": {sendAt: 40 * time.Second, hold: func(v *virtual, id string) error {
			v.at(10*time.Second, func() error { return v.holdBatch(id, false) })
			return nil
		}},
		"held by an operator": {sendAt: 40 * time.Second, hold: func(v *virtual, _ string) error {
			v.RegisterDelayedCallback(func() { v.SignalWorkflow(string(email.ActionHold), nil) }, 10*time.Second)
			return nil
		}},
		"held while it waits for a relay": {outage: "a closed port", hold: func(v *virtual, id string) error {
			v.at(15*time.Second, func() error { return v.holdBatch(id, true) })
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			if tc.outage != "" {
				outages[tc.outage](v, virtualDay)
			} else {
				v.listen(nil, "", until(0, "", ""))
				v.connect("", v.peer.Addr())
			}
			at := []time.Duration{11*time.Minute + 7*time.Second, 11*time.Minute + 7*time.Second, 61*time.Minute + 7*time.Second}
			var ms []email.Message
			for _, after := range at {
				m := v.expiring(after)
				if tc.sendAt > 0 {
					m.SendAt = virtualStart.Add(tc.sendAt)
				}
				ms = append(ms, m)
			}
			batch, ids := v.acceptBatch(ms...)
			require.NoError(t, tc.hold(v, batch))
			v.sendBatch(batch)
			for i, after := range at {
				v.requireExpired(ids[i], after)
			}
			if v.peer != nil {
				require.Empty(t, v.received("MAIL"))
			}
			require.Less(t, v.steps, fewSteps, "its run waits")
		})
	}
}

// sendBatchThenAll runs a batch and, a while later, the e-mails that have got runs of their own.
func sendBatchThenAll(ctx workflow.Context, batch string, pause time.Duration, ids []string) error {
	if err := workflow.ExecuteChildWorkflow(ctx, email.WorkflowSendBatch, email.SendBatchInput{BatchID: batch}).Get(ctx, nil); err != nil {
		return err
	}
	if err := workflow.Sleep(ctx, pause); err != nil {
		return err
	}
	return sendAll(ctx, ids)
}

// Mail of a batch that its server has deferred expires too where the batch is held before the
// e-mails' own runs begin: at its expires_at, or at the end of its retries.
func TestVirtualDeferredMailOfAHeldBatchEndsAtItsExpiry(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.RegisterWorkflow(sendBatchThenAll)
	v.listen(nil, "", until(virtualDay, "RCPT", "450 4.2.0 not now"))
	v.connect("", v.peer.Addr())
	const expiry = 31*time.Minute + 7*time.Second
	batch, ids := v.acceptBatch(v.expiring(expiry), v.expiring(0))
	v.at(20*time.Second, func() error { return v.holdBatch(batch, false) })
	v.ExecuteWorkflow(sendBatchThenAll, batch, time.Minute, ids)
	require.True(t, v.IsWorkflowCompleted())
	require.NoError(t, v.GetWorkflowError())
	for i, at := range []time.Duration{expiry, 72 * time.Hour} {
		e := v.email(ids[i])
		require.Equal(t, []any{email.StatusFailed, email.DetailExpired}, []any{e.Status, e.Detail})
		require.Len(t, v.happened(ids[i], email.EventDeferred), 1)
		ended := v.happened(ids[i], email.EventExpired)
		require.Len(t, ended, 1)
		require.GreaterOrEqual(t, ended[0], at)
		require.LessOrEqual(t, ended[0], at+slack)
	}
	require.Len(t, v.received("RCPT"), 2)
	require.Less(t, v.steps, fewSteps, "their runs wait")
}
