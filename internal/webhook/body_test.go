package webhook_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/webhook"
)

// db calls it through a value of this type.
var _ func(email.Event, email.Email) ([]byte, error) = webhook.Body

var eventAt = time.Date(2026, 3, 14, 19, 4, 1, 160250000, time.FixedZone("CET", 3600))

func mail() email.Email {
	return email.Email{
		ID: "0190c0de-0000-7000-8000-000000000001", CustomerID: "0190c0de-0000-7000-8000-00000000000c",
		WorkflowID: "email-0190c0de-0000-7000-8000-000000000001",
		Message: email.Message{
			Subject: "Order <42> & more", Text: "SECRET TEXT", HTML: "<p>SECRET HTML</p>",
			Tags: []string{"order", "vip"}, Metadata: map[string]string{"order_id": "42", "shop": "north"},
		},
		Status: email.StatusDelivered, Detail: email.DetailPartial,
		Recipients: []email.Recipient{
			{ID: "r1", Kind: email.KindTo, Address: email.Address{Email: "b@y.com", Name: "B"}, Status: email.RecipientDelivered, Attempts: 1},
			{ID: "r2", Kind: email.KindBcc, Address: email.Address{Email: "c@y.com"}, Status: email.RecipientBounced, Reason: email.DetailHard, Attempts: 2},
			{ID: "r3", Kind: email.KindCc, Address: email.Address{Email: "d@y.com"}, Status: email.RecipientDeferred, Attempts: 1, NextAttemptAt: eventAt.Add(time.Minute)},
		},
	}
}

func event(typ email.EventType, recipientID string, seq int64) email.Event {
	return email.Event{ID: "ev", EmailID: mail().ID, Sequence: seq, Type: typ, RecipientID: recipientID, At: eventAt}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	delivered := event(email.EventDelivered, "r1", 3)
	delivered.Reply = email.Reply{Code: 250, Enhanced: "2.0.0", Text: "queued as <7F>"}
	bounced := event(email.EventBounced, "r2", 4)
	bounced.Reply, bounced.Reason = email.Reply{Code: 550, Enhanced: "5.1.1", Text: "no such user"}, email.DetailHard
	deferred := event(email.EventDeferred, "r3", 5)
	deferred.Reply = email.Reply{Code: 451, Enhanced: "4.7.1", Text: "greylisted"}
	bare := mail()
	bare.Tags, bare.Metadata = nil, nil
	for name, tc := range map[string]struct {
		event email.Event
		mail  email.Email
	}{
		"delivered": {delivered, mail()},
		"bounced":   {bounced, mail()},
		"deferred":  {deferred, mail()},
		"completed": {event(email.EventCompleted, "", 6), mail()},
		"queued":    {event(email.EventQueued, "", 1), bare},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := webhook.Body(tc.event, tc.mail)
			require.NoError(t, err)
			golden, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			require.NoError(t, err)
			require.Equal(t, strings.TrimSpace(string(golden)), string(got))
			require.NotContains(t, string(got), "SECRET")
		})
	}
}

// decoded is a body as a receiver reads it.
type decoded struct {
	Data struct {
		Subject   string
		Tags      []string
		Metadata  map[string]string
		Truncated bool
		SMTP      struct{ Text string }
		Recipient struct{ Address string }
	}
}

func TestBodyIsCutInOrder(t *testing.T) {
	t.Parallel()
	reply := email.Reply{Code: 550, Text: strings.Repeat("t", 1000)}
	many := func(n, size int) map[string]string {
		m := map[string]string{"id": "42"}
		for i := range n {
			m[fmt.Sprintf("k%03d", i)] = strings.Repeat("m", size)
		}
		return m
	}
	manyTags := func(n int) []string {
		tags := make([]string, n)
		for i := range tags {
			tags[i] = fmt.Sprintf("tag-%05d", i)
		}
		return tags
	}
	for name, tc := range map[string]struct {
		change func(*email.Email, *email.Event)
		check  func(*testing.T, decoded)
	}{
		"the longest metadata goes first": {
			func(e *email.Email, _ *email.Event) { e.Metadata = many(1, 30_000) },
			func(t *testing.T, d decoded) {
				require.Equal(t, map[string]string{"id": "42"}, d.Data.Metadata)
				require.Len(t, d.Data.Tags, 2)
				require.Equal(t, mail().Subject, d.Data.Subject)
			},
		},
		"no more metadata than it takes": {
			func(e *email.Email, _ *email.Event) { e.Metadata = many(30, 1000) },
			func(t *testing.T, d decoded) {
				require.Equal(t, "42", d.Data.Metadata["id"])
				require.Greater(t, len(d.Data.Metadata), 10)
				require.NotContains(t, d.Data.Metadata, "k000", "of the same length, by name")
			},
		},
		"then tags, from the last": {
			func(e *email.Email, _ *email.Event) { e.Tags = manyTags(5000) },
			func(t *testing.T, d decoded) {
				require.Empty(t, d.Data.Metadata)
				require.Greater(t, len(d.Data.Tags), 1000)
				require.Equal(t, manyTags(5000)[:len(d.Data.Tags)], d.Data.Tags)
				require.Equal(t, mail().Subject, d.Data.Subject)
			},
		},
		"then the subject, between characters": {
			func(e *email.Email, _ *email.Event) { e.Subject = strings.Repeat("€", 10_000) },
			func(t *testing.T, d decoded) {
				require.Empty(t, d.Data.Tags)
				require.Greater(t, len(d.Data.Subject), 15_000)
				require.Equal(t, strings.Repeat("€", len(d.Data.Subject)/3), d.Data.Subject)
				require.Equal(t, reply.Text, d.Data.SMTP.Text)
			},
		},
		"then the server's text": {
			func(e *email.Email, ev *email.Event) { ev.Text = strings.Repeat("\"\x01", 20_000) },
			func(t *testing.T, d decoded) {
				require.Empty(t, d.Data.Subject)
				require.Less(t, len(d.Data.SMTP.Text), 20_000)
			},
		},
		"what is broken stays valid": {
			func(e *email.Email, ev *email.Event) {
				e.Subject, ev.Text = strings.Repeat("\xff\xe2\x82", 20_000), strings.Repeat("\xff<", 20_000)
				e.Metadata = map[string]string{strings.Repeat("\xff", 5000): strings.Repeat("\x00", 5000)}
			},
			func(t *testing.T, d decoded) { require.Empty(t, d.Data.Metadata) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, ev := mail(), event(email.EventBounced, "r2", 4)
			ev.Reply = reply
			tc.change(&e, &ev)
			before := len(e.Metadata)
			body, err := webhook.Body(ev, e)
			require.NoError(t, err)
			require.LessOrEqual(t, len(body), webhook.MaxBodyBytes)
			var d decoded
			require.NoError(t, json.Unmarshal(body, &d))
			require.True(t, d.Data.Truncated)
			require.Equal(t, "c@y.com", d.Data.Recipient.Address)
			tc.check(t, d)
			require.Len(t, e.Metadata, before, "the e-mail itself is left alone")
			again, err := webhook.Body(ev, e)
			require.NoError(t, err)
			require.Equal(t, string(body), string(again))
		})
	}
}

func TestBodyOfTheLargestSizeIsWhole(t *testing.T) {
	t.Parallel()
	e, ev := mail(), event(email.EventQueued, "", 1)
	e.Subject = ""
	empty, err := webhook.Body(ev, e)
	require.NoError(t, err)
	e.Subject = strings.Repeat("s", webhook.MaxBodyBytes-len(empty))
	body, err := webhook.Body(ev, e)
	require.NoError(t, err)
	require.Len(t, body, webhook.MaxBodyBytes)
	require.NotContains(t, string(body), "truncated")
	e.Subject += "s"
	body, err = webhook.Body(ev, e)
	require.NoError(t, err)
	require.LessOrEqual(t, len(body), webhook.MaxBodyBytes)
	require.Contains(t, string(body), `"truncated":true`)
}

func TestBodyThatCannotFitIsAnError(t *testing.T) {
	t.Parallel()
	e := mail()
	e.WorkflowID = strings.Repeat("w", 30_000)
	_, err := webhook.Body(event(email.EventQueued, "", 1), e)
	require.ErrorContains(t, err, "limit 20000")
}
