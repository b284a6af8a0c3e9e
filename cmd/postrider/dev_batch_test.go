package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/client"
	"github.com/postrider/postrider/email"
)

// batches sends many e-mails in one request, some of which are refused, put off, or
// for later.
func (s *stack) batches() {
	ctx := s.t.Context()
	message := client.Message{From: client.Address{Email: "demo@example.com"}, Subject: "Order {{order}}", Content: client.Content{HTML: "<p>Dear {{name}}, {{order}}</p>"}}
	to := func(local string, i int) client.BatchRecipient {
		return client.BatchRecipient{Address: client.Address{Email: local + "@example.net", Name: fmt.Sprintf("R <%d>", i)}, Variables: map[string]string{"order": fmt.Sprint(i)}}
	}
	b := client.Batch{Mode: email.BatchPermissive, Message: &message}
	for i := range 60 {
		b.Recipients = append(b.Recipients, to(fmt.Sprintf("batch%d", i), i))
	}
	b.Recipients = append(b.Recipients, to("bounce-60", 60), to("defer", 61), to("bounce-62", 62), client.BatchRecipient{Address: client.Address{Email: "x@example.net", Name: "X"}})
	sent, err := s.api.SendBatch(ctx, b, client.IdempotencyKey("batch-1"))
	require.NoError(s.t, err)
	require.Equal(s.t, []int{64, 63, 1}, []int{sent.Total, sent.Accepted, sent.Refused})
	require.Equal(s.t, "/recipients/63/variables/order", sent.Items[63].Error.Fields[0].Pointer)
	again, err := s.api.SendBatch(ctx, b, client.IdempotencyKey("batch-1"))
	require.NoError(s.t, err)
	require.True(s.t, again.Replayed)
	require.Equal(s.t, sent.Items, again.Items)

	p := s.finished(sent.ID)
	require.Equal(s.t, []int{63, 61, 2}, []int{p.Emails["total"], p.Count(email.StatusDelivered), p.Count(email.StatusBounced)})
	require.Equal(s.t, client.BatchFinished, p.Status)
	require.False(s.t, p.FinishedAt.IsZero())

	got := map[string]client.Email{}
	for e, err := range s.api.List(ctx, email.Filter{BatchID: sent.ID}) {
		require.NoError(s.t, err)
		require.Equal(s.t, sent.ID, e.BatchID)
		got[e.ID] = e
	}
	require.Len(s.t, got, 63)
	for i, item := range sent.Items[:63] {
		e := got[item.ID]
		require.Equal(s.t, fmt.Sprintf("Order %d", i), e.Subject)
		require.Len(s.t, e.Recipients, 1)
		require.Equal(s.t, b.Recipients[i].Email, e.Recipients[0].Address)
		switch local, _, _ := strings.Cut(b.Recipients[i].Email, "@"); local {
		case "bounce-60", "bounce-62":
			require.Equal(s.t, email.RecipientBounced, e.Recipients[0].Status)
			require.Equal(s.t, 550, e.Recipients[0].SMTPCode)
		case "defer":
			require.Equal(s.t, email.RecipientDelivered, e.Recipients[0].Status)
			require.Equal(s.t, 3, e.Recipients[0].Attempts)
			require.Equal(s.t, "email-"+e.ID, e.WorkflowID, "what was put off goes on in a run of its own")
		default:
			require.Equal(s.t, email.RecipientDelivered, e.Recipients[0].Status)
			require.Equal(s.t, 1, e.Recipients[0].Attempts)
			require.Equal(s.t, sent.WorkflowID, e.WorkflowID)
		}
	}
	msgs := s.arrived(sent.Items[7].ID)
	require.Len(s.t, msgs, 1)
	raw := s.raw(msgs[0].ID)
	require.Contains(s.t, raw, "Subject: Order 7\r\n")
	require.Contains(s.t, raw, "Dear R &lt;7&gt;, 7")

	s.steeredBatch(message, to)
}

// finished waits for a batch's end.
func (s *stack) finished(id string) (last client.BatchProgress) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for p, err := range s.api.WatchBatch(s.t.Context(), id, 50*time.Millisecond) {
		require.NoError(s.t, err)
		require.True(s.t, time.Now().Before(deadline), "batch %s stands at %v: %s", id, p, s.logTail())
		last = p
	}
	return last
}

// steeredBatch holds, resumes and cancels a batch that is for later, and one whose
// e-mails were due.
func (s *stack) steeredBatch(message client.Message, to func(string, int) client.BatchRecipient) {
	ctx := s.t.Context()
	message.SendAt = time.Now().Add(time.Hour)
	sent, err := s.api.SendBatch(ctx, client.Batch{Message: &message, Recipients: []client.BatchRecipient{to("later", 1), to("later", 2)}})
	require.NoError(s.t, err)
	require.Equal(s.t, email.DetailScheduled, sent.Items[0].StatusDetail)
	held, err := s.api.HoldBatch(ctx, sent.ID)
	require.NoError(s.t, err)
	require.Equal(s.t, client.BatchHeld, held.Status)
	require.Equal(s.t, map[email.Detail]int{email.DetailHeld: 2}, held.Details)
	resumed, err := s.api.ResumeBatch(ctx, sent.ID)
	require.NoError(s.t, err)
	require.Equal(s.t, map[email.Detail]int{email.DetailScheduled: 2}, resumed.Details)
	canceled, err := s.api.CancelBatch(ctx, sent.ID)
	require.NoError(s.t, err)
	require.Equal(s.t, client.BatchFinished, canceled.Status)
	require.Equal(s.t, 2, canceled.Count(email.StatusCanceled))
	var listed []string
	for p, err := range s.api.Batches(ctx, client.PageSize(1)) {
		require.NoError(s.t, err)
		listed = append(listed, p.ID)
	}
	require.Len(s.t, listed, 2)
	require.Equal(s.t, sent.ID, listed[0], "the newest first")
}

// commandLineBatch sends a file as a person does.
func (s *stack) commandLineBatch(bin string) {
	file := write(s.t, "people.csv", "\xef\xbb\xbfemail,name,order\r\nann@example.net,Ann,\"1,000\"\r\nbounce-csv@example.net,Bob,2\r\n")
	run := func(args ...string) (string, int) {
		s.t.Helper()
		cmd := exec.CommandContext(s.t.Context(), bin, append([]string{"send", "--from", "demo@example.com", "--subject", "Order {{order}}", "--text", "Dear {{name}}", "--batch", file}, args...)...)
		cmd.Env = []string{"POSTRIDER_DEV_DIR=" + s.dir}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			require.NoError(s.t, err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run("--dry-run")
	require.Zero(s.t, code, out)
	require.Contains(s.t, out, "Subject: Order 1,000\n")
	require.Contains(s.t, out, "Nothing was sent: this is the first of 2 copies")
	out, code = run()
	require.Equal(s.t, 2, code, out)
	require.Regexp(s.t, `(?m)^[0-9a-f-]{36} accepted: 2 e-mails$`, out)
	require.Regexp(s.t, `(?m)^2 e-mails in [\d.]+m?s: 1 delivered, 1 bounced$`, out)
	require.Contains(s.t, out, "\nbounce-csv@example.net bounced (hard): 550 5.1.1 ")
	out, code = run("--html", "{{greeting}}")
	require.Equal(s.t, 1, code, out)
	require.Contains(s.t, out, "postrider: --batch "+file+": line 2, column greeting: the message uses it, and there is no such column; add it\n")
}
