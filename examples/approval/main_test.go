package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/mailtest"
)

var draft = Draft{Account: mail.Account{Customer: "C", From: "shop@acme.test"}, To: "ann@x.test", Subject: "News", Text: "We have news."}

// decide sends the update after a time, and keeps how it was answered.
func decide(e *mailtest.Env, after time.Duration, d Decision, answer *error) {
	e.RegisterDelayedCallback(func() {
		e.UpdateWorkflow("decide", "", &testsuite.TestUpdateCallback{
			OnAccept:   func() {},
			OnReject:   func(err error) { *answer = err },
			OnComplete: func(_ any, err error) { *answer = err },
		}, d)
	}, after)
}

func TestWhatIsApprovedIsSent(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	var unnamed, first, second error
	decide(e, time.Minute, Decision{Approved: true}, &unnamed)
	decide(e, time.Hour, Decision{Approved: true, By: "ann"}, &first)
	decide(e, time.Hour, Decision{By: "bob"}, &second)
	said, err := mailtest.Execute[string](t, e, Announce, draft)
	require.NoError(t, err)
	require.Equal(t, "delivered, approved by ann", said)
	require.ErrorContains(t, unnamed, "say who decides")
	require.NoError(t, first)
	require.ErrorContains(t, second, "it was decided by ann")
	require.Equal(t, mailtest.Start.Add(time.Hour), e.At[0])
}

func TestWhatIsRefusedOrForgottenIsNot(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	var answer error
	decide(e, time.Hour, Decision{By: "bob"}, &answer)
	said, err := mailtest.Execute[string](t, e, Announce, draft)
	require.NoError(t, err)
	require.Equal(t, "not sent: refused by bob", said)
	require.Empty(t, e.Sent)

	e = mailtest.New(t, mailtest.Delivered)
	said, err = mailtest.Execute[string](t, e, Announce, draft)
	require.NoError(t, err)
	require.Equal(t, "not sent: nobody decided", said)
	require.Equal(t, 24*time.Hour, e.Now().Sub(mailtest.Start))
	require.Empty(t, e.Sent)
}
