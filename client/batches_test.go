package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

const acceptedBatch = `{"id":"` + anID + `","status":"sending","mode":"permissive","total":2,"accepted":1,"refused":1,"created_at":"2026-01-02T03:04:05Z","finished_at":null,
	"items":[{"index":0,"id":"` + anID + `","status":"queued","status_detail":"scheduled"},
	{"index":1,"error":{"code":"invalid_request","detail":"d","errors":[{"pointer":"/recipients/1/email","code":"missing","detail":"give the address"}]}}]}`

func progress(status, emails string) string {
	return `{"id":"` + anID + `","status":"` + status + `","emails":{` + emails + `},"details":{"deferred":1},"rate":2.5,"next_attempt_at":null}`
}

func TestSendBatch(t *testing.T) {
	t.Parallel()
	s := serve(t, hangUp, answer(503, ""), answer(202, acceptedBatch, "Idempotent-Replayed", "true"))
	got, err := newClient(t, s.URL).SendBatch(t.Context(), client.Batch{Messages: []client.Message{hello}})
	require.NoError(t, err)
	require.True(t, got.Replayed)
	require.Equal(t, client.BatchSending, got.Status)
	require.True(t, got.FinishedAt.IsZero())
	require.Equal(t, email.DetailScheduled, got.Items[0].StatusDetail)
	require.Nil(t, got.Items[0].Error)
	require.Equal(t, "/recipients/1/email", got.Items[1].Error.Fields[0].Pointer)
	rs := s.requests()
	require.Len(t, rs, 3)
	require.Len(t, rs[0].key, 26, "a random key")
	require.Equal(t, rs[0], rs[2], "every try is the same")
}

func TestBatchTextsAreUTF8(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(202, acceptedBatch))
	const latin1 = "Gr\xfc\xdfe"
	wrong := hello
	wrong.Subject = latin1
	for pointer, b := range map[string]client.Batch{
		"/messages/1/subject":     {Messages: []client.Message{hello, wrong}},
		"/message/subject":        {Message: &wrong},
		"/recipients/0/email":     {Recipients: []client.BatchRecipient{{Address: client.Address{Email: latin1}}}},
		"/recipients/0/name":      {Recipients: []client.BatchRecipient{{Address: client.Address{Name: latin1}}}},
		"/recipients/0/variables": {Recipients: []client.BatchRecipient{{Variables: map[string]string{"a": latin1}}}},
	} {
		_, err := newClient(t, s.URL).SendBatch(t.Context(), b)
		var e *client.Error
		require.ErrorAs(t, err, &e, pointer)
		require.Equal(t, pointer, e.Fields[0].Pointer)
		_, err = newClient(t, s.URL).PreviewBatch(t.Context(), b)
		require.ErrorAs(t, err, &e, pointer)
	}
	require.Empty(t, s.requests())
}

func TestWatchBatch(t *testing.T) {
	t.Parallel()
	s := serve(t, answer(200, progress("sending", `"queued":2,"sending":1,"total":3`)), answer(200, progress("held", `"queued":1,"delivered":2,"total":3`)),
		answer(200, progress("finished", `"delivered":3,"total":3`)), answer(500, ""))
	var open []int
	for p, err := range newClient(t, s.URL).WatchBatch(t.Context(), anID, time.Millisecond) {
		require.NoError(t, err)
		require.Equal(t, map[email.Detail]int{email.DetailDeferred: 1}, p.Details)
		open = append(open, p.Open())
	}
	require.Equal(t, []int{3, 1, 0}, open)

	s = serve(t, answer(200, progress("sending", "")))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range newClient(t, s.URL).WatchBatch(ctx, anID, time.Hour) {
		last = err
		cancel()
	}
	require.ErrorIs(t, last, context.Canceled)

	s = serve(t, answer(404, `{"code":"not_found","detail":"there is no such batch"}`))
	n := 0
	for _, err := range newClient(t, s.URL).WatchBatch(t.Context(), anID, time.Hour) {
		require.ErrorContains(t, err, "there is no such batch")
		n++
	}
	require.Equal(t, 1, n)
}
