package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
)

const (
	blockedBySpamhaus = "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"
	notAuthenticated  = "550 5.7.26 Unauthenticated email from acme.test is not accepted due to domain's DMARC policy"
	triedLater        = "421 4.7.30 Your email has been rate limited because DKIM authentication didn't pass for this message"
)

// connectFinal is connect for the recipients' own server.
func (v *virtual) connectFinal(answer script) {
	v.t.Helper()
	v.listen(nil, "", answer)
	peer, err := relay.Parse("smtp://" + v.peer.Addr() + "?tls=none&name=peer&accepts=final")
	require.NoError(v.t, err)
	relays := relay.New([]relay.Relay{peer}, relay.Options{Now: v.Now, MailOf: v.store.Mail.MailOf})
	v.t.Cleanup(relays.Close)
	v.work(relaySessions{relays})
}

// requireWaitsFor: an e-mail is open, and each recipient is deferred for that reason, by the reply.
func (v *virtual) requireWaitsFor(reason email.Detail, code int, ids ...string) {
	v.t.Helper()
	for _, id := range ids {
		e := v.email(id)
		require.Equal(v.t, []any{email.StatusSending, reason}, []any{e.Status, e.Detail})
		for _, r := range e.Recipients {
			require.Equal(v.t, []any{email.RecipientDeferred, reason, code}, []any{r.Status, r.Reason, r.Code})
		}
	}
}

// TestVirtualABlockedAddressWaitsOnTheSchedule: a blocklist has our address for three hours. The mail is tried at
// 0, 1, 6, 21, 51, 111 and 231 minutes (±10 %), and arrives once the block is lifted. A mail that expires before ends
// with the server's reply.
func TestVirtualABlockedAddressWaitsOnTheSchedule(t *testing.T) {
	t.Parallel()
	const lasts = 3 * time.Hour
	for how, verb := range map[string]string{"at MAIL": "MAIL", "at RCPT": "RCPT", "at the dot": "."} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			v.connectFinal(until(lasts, verb, blockedBySpamhaus))
			id := v.accept(time.Time{}, "a@x.test", "b@y.test")
			_, short := v.acceptBatch(v.expiring(30 * time.Minute))
			v.at(2*time.Hour, func() error {
				v.requireWaitsFor(email.DetailIPBlocked, 554, id)
				return nil
			})
			v.send(id, short[0])
			v.requireDelivered(lasts, 231*time.Minute+24*time.Minute, id)
			require.Len(t, v.happened(id, email.EventDeferred), 2*6, "before three hours: 0, 1, 6, 21, 51 and 111 minutes")
			require.Empty(t, v.happened(id, email.EventBounced))

			e := v.email(short[0])
			require.Equal(t, []any{email.StatusFailed, email.DetailExpired}, []any{e.Status, e.Detail})
			r := e.Recipients[0]
			require.Equal(t, []any{email.RecipientExpired, email.DetailExpired, 554}, []any{r.Status, r.Reason, r.Code})
			require.Contains(t, r.Text, "blocked using zen.spamhaus.org", "the last reply stays")
		})
	}
}

// warning is a domain.warning in the webhook's deliveries, and when it was made.
type warning struct {
	at   time.Duration
	data map[string]any
}

func (v *virtual) warnings() (out []warning) {
	v.t.Helper()
	rows, err := v.db.QueryContext(v.t.Context(), "SELECT body FROM public.webhook_deliveries WHERE type = 'domain.warning' ORDER BY body::jsonb ->> 'timestamp'")
	require.NoError(v.t, err)
	defer rows.Close()
	for rows.Next() {
		var raw string
		require.NoError(v.t, rows.Scan(&raw))
		var body struct {
			Timestamp time.Time      `json:"timestamp"`
			Data      map[string]any `json:"data"`
		}
		require.NoError(v.t, json.Unmarshal([]byte(raw), &body))
		out = append(out, warning{body.Timestamp.Sub(virtualStart), body.Data})
	}
	require.NoError(v.t, rows.Err())
	return out
}

// TestVirtualAnUnauthenticatedDomainIsWarnedOfOnceADay: a server does not take the mail of a domain without DKIM for 47
// hours. Each mail is tried again after two days, or at once by retry_now. The customer gets one warning a day.
func TestVirtualAnUnauthenticatedDomainIsWarnedOfOnceADay(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	v := newVirtual(t)
	_, err := v.db.ExecContext(t.Context(), "UPDATE public.webhook_endpoints SET url = 'https://hook.test', disabled_at = NULL, disabled_reason = ''")
	require.NoError(t, err)
	v.connectFinal(until(47*time.Hour, ".", notAuthenticated))
	first, second := v.accept(time.Time{}, "a@x.test"), v.accept(time.Time{}, "b@y.test")
	late := v.accept(virtualStart.Add(23*time.Hour), "c@x.test")
	next := v.accept(virtualStart.Add(25*time.Hour), "d@x.test")
	v.at(time.Hour, func() error {
		v.requireWaitsFor(email.DetailUnauthenticated, 550, first, second)
		v.setClock()
		if _, _, err := v.store.Mail.ControlFor(t.Context(), v.customer, second, email.Control{Action: email.ActionRetryNow}); err != nil {
			return err
		}
		return v.SignalWorkflowByID(email.WorkflowIDPrefix+second, email.SignalWake, nil)
	})
	v.send(first, second, late, next)

	v.requireDelivered(2*day, 3*day+6*time.Hour, first, second, late, next)
	for id, refused := range map[string]time.Duration{first: 0, second: time.Hour, late: 23 * time.Hour, next: 25 * time.Hour} {
		at := v.happened(id, email.EventDelivered)[0]
		require.GreaterOrEqual(t, at, refused+2*day)
		require.LessOrEqual(t, at, refused+2*day+5*time.Hour, "two days and up to a tenth")
	}
	require.Len(t, v.happened(first, email.EventDeferred), 1, "one refusal")
	require.Len(t, v.happened(second, email.EventDeferred), 2, "one more by retry_now")

	sent := v.warnings()
	require.Len(t, sent, 2)
	for i, from := range []time.Duration{0, 25 * time.Hour} {
		require.GreaterOrEqual(t, sent[i].at, from)
		require.LessOrEqual(t, sent[i].at, from+slack)
		data := sent[i].data
		require.Equal(t, "acme.test", data["domain"])
		require.Equal(t, v.customer, data["customer_id"])
		require.Equal(t, "unauthenticated", data["reason"])
		require.Equal(t, "dmarc", data["fault"])
		require.Contains(t, data["remedy"], `publish a TXT record at _dmarc.acme.test that begins with "v=DMARC1; p=none"`)
		smtp := data["smtp"].(map[string]any)
		require.Equal(t, []any{550.0, "5.7.26"}, []any{smtp["code"], smtp["enhanced_code"]})
		require.True(t, strings.HasPrefix(smtp["text"].(string), "Unauthenticated email from acme.test"))
		require.NotContains(t, data, "domain_id", "the customer has no such sender domain")
	}
	require.Contains(t, []any{first, second}, sent[0].data["email_id"])
	require.Equal(t, next, sent[1].data["email_id"])
}

// TestVirtualATemporaryAuthenticationReplyIsTriedHourly: no faster, also where the schedule's first steps are shorter.
func TestVirtualATemporaryAuthenticationReplyIsTriedHourly(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.connectFinal(until(150*time.Minute, ".", triedLater))
	id := v.accept(time.Time{}, "a@x.test")
	v.at(30*time.Minute, func() error {
		v.requireWaitsFor(email.DetailUnauthenticated, 421, id)
		return nil
	})
	v.send(id)
	tries := v.received("RCPT")
	require.Len(t, tries, 4)
	for i := 1; i < len(tries); i++ {
		require.GreaterOrEqual(t, tries[i]-tries[i-1], time.Hour)
	}
	v.requireDelivered(3*time.Hour, 200*time.Minute, id)
}
