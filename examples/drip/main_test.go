package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/mailtest"
)

const week = 7 * 24 * time.Hour

var series = Series{Account: mail.Account{Customer: "C", From: "shop@acme.test"}, To: "ann@x.test", Every: week, Mails: []string{"one", "two", "three"}}

func TestASeriesTakesWeeks(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	sent, err := mailtest.Execute[Sent](t, e, Welcome, series)
	require.NoError(t, err)
	require.Equal(t, Sent{Mails: 3, End: "complete"}, sent)
	require.Equal(t, []time.Time{mailtest.Start, mailtest.Start.Add(week), mailtest.Start.Add(2 * week)}, e.At)
	require.Equal(t, email.StreamBroadcast, e.Sent[0].Stream)
	require.Equal(t, "Welcome, part 3", e.Sent[2].Subject)
	require.Len(t, map[string]bool{e.IDs[0]: true, e.IDs[1]: true, e.IDs[2]: true}, 3)
}

func TestABounceEndsIt(t *testing.T) {
	e := mailtest.New(t, func(_ workflow.Context, n int, _ client.Message) email.Status {
		return []email.Status{email.StatusDelivered, email.StatusBounced}[n-1]
	})
	sent, err := mailtest.Execute[Sent](t, e, Welcome, series)
	require.NoError(t, err)
	require.Equal(t, Sent{Mails: 1, End: "the mail is bounced"}, sent)
	require.Len(t, e.Sent, 2, "no third")
}

func TestTheReaderEndsIt(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	e.RegisterDelayedCallback(func() { e.SignalWorkflow("stop", nil) }, 10*24*time.Hour)
	sent, err := mailtest.Execute[Sent](t, e, Welcome, series)
	require.NoError(t, err)
	require.Equal(t, Sent{Mails: 2, End: "stopped by the reader"}, sent)
	require.Equal(t, 10*24*time.Hour, e.Now().Sub(mailtest.Start))
}
