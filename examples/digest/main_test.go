package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/examples/internal/mail"
	"github.com/postrider/postrider/examples/internal/mailtest"
)

var daily = Digest{Account: mail.Account{Customer: "C", From: "shop@acme.test"}, To: "ann@x.test", For: 24 * time.Hour}

// next is the input of the run that follows.
func next(t *testing.T, err error) Digest {
	t.Helper()
	again, ok := errors.AsType[*workflow.ContinueAsNewError](err)
	require.True(t, ok, "%v", err)
	var d Digest
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &d))
	return d
}

func TestADayBecomesOneMail(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	for i := range 3 {
		e.RegisterDelayedCallback(func() { e.SignalWorkflow("add", fmt.Sprint("thing ", i)) }, time.Duration(i+2)*time.Hour)
	}
	_, err := mailtest.Execute[any](t, e, Collect, daily)
	require.Equal(t, daily, next(t, err), "the next day begins empty")
	require.Len(t, e.Sent, 1)
	require.Equal(t, "3 things happened", e.Sent[0].Subject)
	require.Equal(t, "- thing 0\n- thing 1\n- thing 2", e.Sent[0].Content.Text)
	require.Equal(t, mailtest.Start.Add(26*time.Hour), e.At[0], "a day after the first")
	require.NotEmpty(t, e.Keys[0])
}

func TestWhatCameTooLateIsInTheNext(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	late := daily
	late.Items = []string{"yesterday's"}
	_, err := mailtest.Execute[any](t, e, Collect, late)
	next(t, err)
	require.Equal(t, "- yesterday's", e.Sent[0].Content.Text)
	require.Equal(t, mailtest.Start.Add(24*time.Hour), e.At[0])
}

// Any program can send a signal. One without a text is left out; those after it count.
func TestASignalWithoutATextIsLeftOut(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	for i, item := range []any{42, "thing 1", nil, "thing 3", map[string]string{"thing": "4"}} {
		e.RegisterDelayedCallback(func() { e.SignalWorkflow("add", item) }, time.Duration(i+1)*time.Hour)
	}
	e.RegisterDelayedCallback(func() { // these are left for the next
		e.SignalWorkflow("add", 42)
		e.SignalWorkflow("add", "thing 5")
	}, 26*time.Hour)
	_, err := mailtest.Execute[any](t, e, Collect, daily)
	require.Equal(t, []string{"thing 5"}, next(t, err).Items)
	require.Equal(t, "- thing 1\n- thing 3", e.Sent[0].Content.Text)
	require.Equal(t, mailtest.Start.Add(26*time.Hour), e.At[0], "a day after the first that can be read")
}

func TestAFullDigestDoesNotWait(t *testing.T) {
	e := mailtest.New(t, mailtest.Delivered)
	e.RegisterDelayedCallback(func() {
		for i := range maxItems + 5 {
			e.SignalWorkflow("add", fmt.Sprint(i))
		}
	}, time.Hour)
	_, err := mailtest.Execute[any](t, e, Collect, daily)
	require.Len(t, next(t, err).Items, 5, "what came meanwhile is not lost")
	require.Equal(t, "500 things happened", e.Sent[0].Subject)
	require.Equal(t, mailtest.Start.Add(time.Hour), e.At[0])
}
