package mail_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

func TestFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m := dbsetup.Message("Bob@X.test", "carl@y.test")
	m.Subject, m.Tags = "Your 100% Order_1", []string{"order", "vip"}
	order := b.Accept(m)
	m = dbsetup.Message("eve@z.test")
	m.Subject, m.Stream, m.From.Email = "Weekly news", email.StreamBroadcast, "News@acme.test"
	news := b.Accept(m)
	b.Exec("UPDATE emails SET created_at = '2026-01-02T03:00:00Z' WHERE id = '" + news.ID + "'")
	_, err := b.Mail.Control(b.Ctx, news.ID, email.Control{Action: email.ActionCancel})
	require.NoError(t, err)
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		filter email.Filter
		want   []string
	}{
		"nothing":          {email.Filter{}, []string{order.ID, news.ID}},
		"status":           {email.Filter{Statuses: []email.Status{email.StatusCanceled}}, []string{news.ID}},
		"statuses":         {email.Filter{Statuses: []email.Status{email.StatusCanceled, email.StatusQueued}}, []string{order.ID, news.ID}},
		"recipient":        {email.Filter{To: "bob@x.TEST"}, []string{order.ID}},
		"recipient domain": {email.Filter{To: "@Y.test"}, []string{order.ID}},
		"part of a domain": {email.Filter{To: "@test"}, nil},
		"sender":           {email.Filter{From: "news@ACME.test"}, []string{news.ID}},
		"sender domain":    {email.Filter{From: "@acme.test"}, []string{order.ID, news.ID}},
		"tag":              {email.Filter{Tag: "vip"}, []string{order.ID}},
		"part of a tag":    {email.Filter{Tag: "vi"}, nil},
		"subject":          {email.Filter{Subject: "100% order_"}, []string{order.ID}},
		"no pattern":       {email.Filter{Subject: "1%r_"}, nil},
		"stream":           {email.Filter{Stream: email.StreamBroadcast}, []string{news.ID}},
		"from a time on":   {email.Filter{CreatedFrom: day.Add(3 * time.Hour), CreatedBefore: day.Add(24 * time.Hour)}, []string{news.ID}},
		"before a time":    {email.Filter{CreatedBefore: day.Add(3 * time.Hour)}, nil},
		"all of them":      {email.Filter{To: "bob@x.test", Tag: "order", From: "@acme.test", Subject: "order", Detail: ""}, []string{order.ID}},
		"one does not fit": {email.Filter{To: "bob@x.test", Tag: "newsletter"}, nil},
	} {
		es, _, err := b.Mail.Emails(b.Ctx, b.Customer, tc.filter, email.Cursor{}, 10)
		require.NoError(t, err, name)
		var got []string
		for _, e := range es {
			got = append(got, e.ID)
		}
		require.Equal(t, tc.want, got, name)
	}
}

// TestPagesStandStillWhileMailComesIn: a page that was reached stays where it is.
func TestPagesStandStillWhileMailComesIn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var want []string
	for range 7 {
		want = append([]string{b.Accept(dbsetup.Message("bob@x.test")).ID}, want...)
	}
	var got []string
	after := email.Cursor{}
	for {
		es, next, err := b.Mail.Emails(b.Ctx, b.Customer, email.Filter{To: "bob@x.test"}, after, 2)
		require.NoError(t, err)
		for _, e := range es {
			got = append(got, e.ID)
		}
		if next == nil {
			break
		}
		after = *next
		b.Accept(dbsetup.Message("bob@x.test"))
	}
	require.Equal(t, want, got)
}

func TestStats(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.Accept(dbsetup.Message("bob@x.test", "carl@Y.test"))
	owner, o := b.Open(first.ID, 1)
	require.NoError(t, b.Finish(first.ID, 1, owner,
		delivery.Outcome{RecipientID: o.Recipients[0].ID, Status: email.RecipientDelivered, Reply: email.Reply{Code: 250}},
		delivery.Outcome{RecipientID: o.Recipients[1].ID, Status: email.RecipientBounced, Reason: email.DetailHard}))
	b.Record(first.ID, 1)
	b.Exec("UPDATE emails SET created_at = '2026-01-02T23:59:59Z'")
	second := b.Accept(dbsetup.Message("eve@x.test"))
	owner, o = b.Open(second.ID, 1)
	require.NoError(t, b.Finish(second.ID, 1, owner, delivery.Outcome{RecipientID: o.Recipients[0].ID, Status: email.RecipientDeferred}))
	b.Record(second.ID, 1)
	b.Exec("UPDATE emails SET created_at = '2026-01-03T00:00:00Z' WHERE id = '" + second.ID + "'")

	st, err := b.Mail.Stats(b.Ctx, b.Customer, email.Filter{})
	require.NoError(t, err)
	require.Equal(t, email.StatusCounts{email.StatusDelivered: 1, email.StatusSending: 1}, st.Emails)
	require.Equal(t, email.RecipientCounts{Total: 3, Delivered: 1, Bounced: 1, Open: 1, Deferred: 1}, st.Recipients)
	require.Len(t, st.Days, 2)
	require.Equal(t, "2026-01-02", st.Days[0].Day)
	require.Equal(t, email.RecipientCounts{Total: 2, Delivered: 1, Bounced: 1}, st.Days[0].Recipients)
	require.Equal(t, "2026-01-03", st.Days[1].Day)
	require.Equal(t, []email.DomainStats{{Domain: "acme.test", Recipients: st.Recipients}}, st.SenderDomains)
	require.Equal(t, []email.DomainStats{
		{Domain: "x.test", Recipients: email.RecipientCounts{Total: 2, Delivered: 1, Open: 1, Deferred: 1}},
		{Domain: "y.test", Recipients: email.RecipientCounts{Total: 1, Bounced: 1}},
	}, st.RecipientDomains)
	st, err = b.Mail.Stats(b.Ctx, b.Customer, email.Filter{To: "bob@x.test"})
	require.NoError(t, err)
	require.Equal(t, 2, st.Recipients.Total, "all recipients of the e-mails that are found")
	st, err = b.Mail.Stats(b.Ctx, "00000000-0000-0000-0000-000000000000", email.Filter{})
	require.NoError(t, err)
	require.Zero(t, st.Recipients.Total)
}
