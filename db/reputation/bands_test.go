package reputation_test

import (
	"encoding/json"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/account"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/endpoint"
	"github.com/postrider/postrider/internal/reputation"
)

// judged has the domain judged, and returns those that have become worse. The event that the roll-up
// reads counts for nothing: the e-mail has failed without an attempt.
func (b *bench) judged() []reputation.Change {
	b.T.Helper()
	b.event(b.Accept(dbsetup.Message("nobody@x.test")).ID, "email.failed", "attachment")
	return b.rollUp()
}

// becomes has the domain judged, and returns its band.
func (b *bench) becomes() reputation.Band {
	b.T.Helper()
	b.judged()
	return b.report().Band()
}

func (b *bench) audited(action string) (out []account.Audited) {
	b.T.Helper()
	all, _, err := b.Accounts.Audit(b.Ctx, b.Customer, email.Cursor{}, 100)
	require.NoError(b.T, err)
	for _, a := range all {
		if a.Action == action {
			out = append(out, a)
		}
	}
	return out
}

func TestAWorseBandIsAnnouncedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, _, err := b.Webhooks.CreateEndpoint(b.Ctx, endpoint.Endpoint{CustomerID: b.Customer, URL: "https://hooks.test/b", Method: "POST", Format: endpoint.FormatStandard,
		Events: []string{endpoint.TypeReputationWarning, endpoint.TypeReputationCritical}})
	require.NoError(t, err)
	d, err := b.Accounts.AddDomain(b.Ctx, b.Customer, "acme.test", true)
	require.NoError(t, err)

	b.mailed(5, reputation.Counts{Sent: 99, Delivered: 97, Hard: 2})
	require.Equal(t, reputation.BandUnknown, b.becomes(), "99 mails")
	b.mailed(5, reputation.Counts{Sent: 1000, Delivered: 981, Hard: 19})
	require.Equal(t, reputation.BandGood, b.becomes(), "19 of 1000")
	b.mailed(5, reputation.Counts{Sent: 1000, Delivered: 980, Hard: 20})
	require.Equal(t, reputation.BandWarning, b.becomes(), "20 of 1000")
	require.Equal(t, reputation.BandWarning, b.becomes(), "it is announced once")
	b.mailed(5, reputation.Counts{Sent: 1000, Delivered: 950, Hard: 50})
	require.Equal(t, reputation.BandCritical, b.becomes())
	since := b.report().Since
	require.Equal(t, reputation.BandCritical, b.becomes())
	require.Equal(t, since, b.report().Since)
	b.mailed(5, reputation.Counts{Sent: 1000, Delivered: 981, Hard: 19})
	require.Equal(t, reputation.BandWarning, b.becomes(), "a better band is no event")

	var types, bodies []string
	require.NoError(t, b.Raw.NewRaw("SELECT type, body FROM webhook_deliveries ORDER BY created_at").Scan(b.Ctx, &types, &bodies))
	require.Equal(t, []string{"reputation.warning", "reputation.critical"}, types)
	var body struct {
		Type string
		Data map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(bodies[1]), &body))
	require.Equal(t, d.ID, body.Data["domain_id"])
	require.Equal(t, "critical", body.Data["band"])
	require.Equal(t, false, body.Data["broadcast_paused"], "that takes a setting")
	require.Equal(t, "5.0 % of 1000 mails of acme.test bounced as hard in the last 7 days", body.Data["cause"])
	require.Equal(t, map[string]any{"days": 7., "recipients": map[string]any{"sent": 1000., "delivered": 950., "deferred": 0., "hard": 50., "soft": 0., "blocked": 0., "complained": 0., "unsubscribed": 0.,
		"bounce_rate": 0.05, "complaint_rate": 0.}}, body.Data["window"])
	audited := b.audited("reputation.critical")
	require.Len(t, audited, 1)
	require.Equal(t, "acme.test", audited[0].Target)
	require.Equal(t, "reputation", audited[0].Actor.Name)
	require.Equal(t, body.Data["cause"], audited[0].Detail)
	ps, _, err := b.Mail.Pauses(b.Ctx)
	require.NoError(t, err)
	require.Empty(t, ps)
}

func TestComplaintsMakeABand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mailed(0, reputation.Counts{Sent: 1000, Delivered: 1000})
	require.Equal(t, reputation.BandGood, b.becomes())
	b.event(b.sent(email.StreamBroadcast, dbsetup.Delivered, "a@gmail.com")[0], "email.complained", "")
	b.mailed(0, reputation.Counts{Sent: 999, Delivered: 999})
	require.Equal(t, reputation.BandWarning, b.becomes(), "1 of 1000")
	require.Equal(t, reputation.Bands{Bounce: reputation.BandGood, Complaint: reputation.BandWarning}, b.report().Bands)
}

// TestABandEndsWithItsWindow sends nothing more: the bad day leaves the window all the same.
func TestABandEndsWithItsWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.mailed(5, reputation.Counts{Sent: 1000, Hard: 100})
	require.Equal(t, reputation.BandCritical, b.becomes())
	b.rollUpOnce()
	require.Equal(t, reputation.BandCritical, b.report().Band())
	b.Exec("UPDATE reputation_days SET day = day - 2")
	b.Exec("UPDATE reputation_states SET derived_on = derived_on - 1")
	require.Empty(t, b.rollUpOnce())
	require.Equal(t, reputation.BandUnknown, b.report().Band())
}

func (b *bench) pauses() []email.Pause {
	b.T.Helper()
	ps, _, err := b.Mail.Pauses(b.Ctx)
	require.NoError(b.T, err)
	return ps
}

func TestTheCriticalBandPausesBroadcastMail(t *testing.T) {
	t.Parallel()
	b := pausing(t)
	broadcast := dbsetup.Message("bob@x.test")
	broadcast.Stream = email.StreamBroadcast
	elsewhere := broadcast
	elsewhere.From.Email = "shop@other.test"
	waiting := b.Accept(broadcast)

	b.mailed(0, reputation.Counts{Sent: 1000, Hard: 30})
	require.Equal(t, reputation.BandWarning, b.becomes())
	require.Empty(t, b.pauses(), "a warning pauses nothing")
	b.mailed(0, reputation.Counts{Sent: 1000, Hard: 53})
	changes := b.judged()
	require.Len(t, changes, 1)
	require.True(t, changes[0].Paused)
	p := email.Pause{Scope: email.PauseDomainStream, Key: b.Customer + "/acme.test/broadcast"}
	got := b.pauses()
	require.Len(t, got, 1)
	require.Equal(t, p.Key, got[0].Key)
	require.Equal(t, "5.3 % of 1000 mails of acme.test bounced as hard in the last 7 days", got[0].Reason)
	require.Equal(t, "reputation", got[0].SetBy)
	require.Len(t, b.audited("pause.set"), 1)

	_, o := b.Open(waiting.ID, 1)
	require.Equal(t, delivery.VerdictClosed, o.Verdict)
	require.Equal(t, email.WaitingPaused, o.State.Waiting)
	require.Equal(t, email.DetailHeld, b.Get(waiting.ID).Detail)
	require.Equal(t, []email.Holder{email.HolderPause}, b.Get(waiting.ID).HeldBy)
	_, o = b.Open(b.Accept(dbsetup.Message("bob@x.test")).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "transactional mail goes on")
	_, o = b.Open(b.Accept(elsewhere).ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "and the mail of other domains")
	other, _, err := b.Accounts.CreateCustomer(b.Ctx, "Other", "", "")
	require.NoError(t, err)
	e, _, err := b.Mail.Accept(b.Ctx, other.ID, broadcast, uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	_, o = b.Open(e.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict, "and that of other customers")

	// An operator lifts it: it is not set again while the domain is critical.
	require.NoError(t, b.Mail.Unpause(b.Ctx, p))
	require.Equal(t, reputation.BandCritical, b.becomes())
	require.Empty(t, b.pauses())
	_, o = b.Open(waiting.ID, 1)
	require.Equal(t, delivery.VerdictOpened, o.Verdict)
	b.mailed(0, reputation.Counts{Sent: 1000, Hard: 10})
	require.Equal(t, reputation.BandGood, b.becomes())
	b.mailed(0, reputation.Counts{Sent: 1000, Hard: 100})
	require.Equal(t, reputation.BandCritical, b.becomes())
	require.Len(t, b.pauses(), 1, "the band was left and entered again")

	// A better band does not lift it: an operator does.
	b.mailed(0, reputation.Counts{Sent: 1000, Hard: 10})
	require.Equal(t, reputation.BandGood, b.becomes())
	require.Len(t, b.pauses(), 1)
	// A pause that an operator has set by hand stays as it is.
	_, err = b.Mail.Pause(account.WithActor(b.Ctx, account.Actor{Name: "cli"}), email.Pause{Scope: p.Scope, Key: p.Key, Reason: "by hand"})
	require.NoError(t, err)
	b.mailed(0, reputation.Counts{Sent: 1000, Hard: 100})
	changes = b.judged()
	require.Len(t, changes, 1)
	require.False(t, changes[0].Paused)
	got = b.pauses()
	require.Equal(t, "by hand", got[0].Reason)
	require.Equal(t, "cli", got[0].SetBy)
}
