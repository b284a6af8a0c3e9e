package mail_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/logtest"
)

// notAligned is the outcome of mail whose signature is of another domain.
func notAligned(delivery.EnvelopeRecipient) delivery.Outcome {
	return delivery.Outcome{Status: email.RecipientDeferred, Reason: email.DetailUnauthenticated, Auth: delivery.AuthAlignment, RetryAfter: 48 * time.Hour, AtLeast: true,
		Reply: email.Reply{Code: 550, Enhanced: "5.7.32", Text: "the From: header isn't aligned"}}
}

// wantWarnings has the customer's own endpoint get domain.warning.
func (b *bench) wantWarnings() {
	b.Exec("UPDATE webhook_endpoints SET url = 'https://hook.test', disabled_at = NULL, disabled_reason = '' WHERE customer_id = ?", b.Customer)
}

func (b *bench) countWarnings() int {
	return b.Count("SELECT count(*) FROM webhook_deliveries WHERE type = 'domain.warning'")
}

// TestAWarningNamesTheSendersDomain: a domain that the customer has, whose status stays. Case does not matter.
func TestAWarningNamesTheSendersDomain(t *testing.T) {
	t.Parallel()
	url := dbtest.URL(t)
	b := setupOn(t, url)
	b.wantWarnings()
	made, _, err := b.Accounts.CreateDomain(b.Ctx, b.Customer, "acme.test")
	require.NoError(t, err)
	m := dbsetup.Message("a@x.test", "b@y.test")
	m.From.Email = "shop@ACME.test"
	e := b.Accept(m)
	st := b.Attempt(e.ID, 1, notAligned).State
	require.Equal(t, email.DetailUnauthenticated, st.Detail)
	require.Equal(t, 1, b.countWarnings(), "two recipients, one domain")

	var raw string
	require.NoError(t, b.Raw.NewRaw("SELECT body FROM webhook_deliveries WHERE type = 'domain.warning'").Scan(b.Ctx, &raw))
	var body struct {
		Data struct {
			DomainID string           `json:"domain_id"`
			Status   string           `json:"status"`
			Since    time.Time        `json:"status_since"`
			Records  []map[string]any `json:"records"`
			Fault    string           `json:"fault"`
			Remedy   string           `json:"remedy"`
			EmailID  string           `json:"email_id"`
		} `json:"data"`
	}
	require.NoError(t, json.Unmarshal([]byte(raw), &body))
	require.Equal(t, made.ID, body.Data.DomainID)
	require.Equal(t, "pending", body.Data.Status)
	require.NotZero(t, body.Data.Since)
	require.NotNil(t, body.Data.Records)
	require.Equal(t, "alignment", body.Data.Fault)
	require.Contains(t, body.Data.Remedy, "sign it with a DKIM key of this domain")
	require.Equal(t, e.ID, body.Data.EmailID)
	after, err := b.Accounts.DomainByID(b.Ctx, b.Customer, made.ID)
	require.NoError(t, err)
	require.Equal(t, made.Status, after.Status)
	require.Equal(t, 1, b.Count("SELECT count(*) FROM audit WHERE action = 'domain.warning' AND target = 'acme.test' AND detail LIKE '%550 5.7.32%'"))

	b.DueNow(e.ID)
	b.Attempt(e.ID, 2, notAligned)
	require.Equal(t, 1, b.countWarnings(), "one a day")
	attempt := func(n int) { // in a new process, which remembers nothing
		other := setupOn(t, url)
		other.DueNow(e.ID)
		other.Attempt(e.ID, n, notAligned)
	}
	attempt(3)
	require.Equal(t, 1, b.countWarnings(), "of all processes")
	b.Exec("UPDATE domain_warnings SET warned_at = now() - interval '24 hours'")
	attempt(4)
	require.Equal(t, 2, b.countWarnings())
}

// TestAWarningThatIsLostComesWithTheNextReply: the e-mail's outcome stands meanwhile, and the log says so.
func TestAWarningThatIsLostComesWithTheNextReply(t *testing.T) {
	t.Parallel()
	var log logtest.Buffer
	b := setupWith(t, dbtest.URL(t), func(o *db.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	b.wantWarnings()
	b.Exec("ALTER TABLE domain_warnings RENAME TO away")
	e := b.Accept(dbsetup.Message("a@x.test"))
	require.Equal(t, email.DetailUnauthenticated, b.Attempt(e.ID, 1, notAligned).State.Detail)
	require.Equal(t, 1, strings.Count(log.String(), "level=ERROR msg=domain.warning_lost customer_id="+b.Customer))
	require.Zero(t, b.countWarnings())

	b.Exec("ALTER TABLE away RENAME TO domain_warnings")
	b.DueNow(e.ID)
	b.Attempt(e.ID, 2, notAligned)
	require.Equal(t, 1, b.countWarnings())
}

// TestTheFilterDeferredFindsTheReasonsToo: programs that look for deferred mail find it all.
func TestTheFilterDeferredFindsTheReasonsToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Attempt(b.Accept(dbsetup.Message("a@x.test")).ID, 1, notAligned)
	b.Attempt(b.Accept(dbsetup.Message("a@x.test")).ID, 1, dbsetup.Deferred)
	b.Attempt(b.Accept(dbsetup.Message("a@x.test")).ID, 1, dbsetup.Delivered)
	for detail, want := range map[email.Detail]int{email.DetailDeferred: 2, email.DetailUnauthenticated: 1, email.DetailIPBlocked: 0} {
		list, _, err := b.Mail.Emails(b.Ctx, b.Customer, email.Filter{Detail: detail}, email.Cursor{}, 10)
		require.NoError(t, err)
		require.Len(t, list, want, detail)
	}
}
