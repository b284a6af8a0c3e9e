package main

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/dbtest"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/memtest"
	"github.com/postrider/postrider/internal/relay"
)

// sink is an SMTP server that keeps nothing.
func sink(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return // the test is over
		}
		defer conn.Close()
		say := func(s string) { _, _ = conn.Write([]byte(s + "\r\n")) } // the client notices
		say("220 sink")
		buf, tail := make([]byte, 64<<10), []byte{}
		data := false
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			tail = append(tail, buf[max(0, n-5):n]...)
			tail = append(tail[:0], tail[max(0, len(tail)-5):]...)
			switch {
			case data && string(tail) == "\r\n.\r\n":
				data = false
				say("250 2.0.0 gone")
			case data:
			case n >= 4 && string(buf[:4]) == "DATA":
				data = true
				say("354 go on")
			default:
				say("250 sink")
			}
		}
	}()
	return l.Addr().String()
}

// Not parallel: other tests' memory would count. It measures the worker's part: load, render,
// send.
func TestWorkerMemoryOfALargeAttachment(t *testing.T) {
	const size = 24 << 20
	store, err := db.Open(dbtest.URL(t), db.Options{SecretKey: make([]byte, 32)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	cust, _, err := store.Accounts.CreateCustomer(t.Context(), "ACME", "", "")
	require.NoError(t, err)
	e, _, err := store.Mail.Accept(t.Context(), cust.ID, email.Message{
		From: email.Address{Email: "a@acme.test"}, To: []email.Address{{Email: "b@x.test"}}, Subject: "s", Text: "t",
		Attachments: []email.Attachment{{Filename: "i.bin", Type: "application/octet-stream", Content: make([]byte, size)}},
	}, uuid.NewString(), email.Idempotency{})
	require.NoError(t, err)
	peer, err := relay.Parse("smtp://" + sink(t) + "?tls=none")
	require.NoError(t, err)
	relays := relay.New([]relay.Relay{peer}, relay.Options{Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(relays.Close)
	before, held := memtest.Live(), int64(0)
	weigh := func() { held = max(held, memtest.Live()-before) }
	m, err := store.Mail.Message(t.Context(), e.ID)
	require.NoError(t, err)
	weigh()
	message, err := renderMessage(m, delivery.Settled{EmailID: e.ID, Date: time.Now()})
	require.NoError(t, err)
	weigh()
	require.NotEmpty(t, m.Attachments, "the message is still there while it is rendered")
	session, err := relays.Session(t.Context(), delivery.Route{})
	require.NoError(t, err)
	defer session.Close()
	ex := session.Send(t.Context(), delivery.Envelope{ID: e.ID, From: "a@acme.test", Recipients: []delivery.EnvelopeRecipient{{ID: "r", Address: "b@x.test"}}},
		message, func(context.Context, []delivery.Outcome) error { weigh(); return nil })
	require.Equal(t, email.RecipientDelivered, ex.Outcomes[0].Status, "%+v", ex)
	t.Logf("%.1f times its size", float64(held)/size)
	require.Less(t, held, int64(4*size))
	require.Greater(t, held, int64(2*size), "it was measured while it was there")
}
