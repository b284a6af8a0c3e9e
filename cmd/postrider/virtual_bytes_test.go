package main

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

// ending is how a relay ends an attempt, once: answer is what it gives to the command verb.
type ending struct{ verb, answer string }

// refusedAtDot is a relay's fault at the final dot. It puts every recipient back, as if the attempt
// had not been.
var refusedAtDot = ending{".", "451 4.3.0 trouble"}

// endings are the ways in which an attempt ends at each stage, and leaves a recipient to be tried
// again.
var endings = map[string]ending{
	"MAIL, 452 of the relay":               {"MAIL", "452 4.3.1 Insufficient system storage"},
	"MAIL, 451 of one sender":              {"MAIL", "451 4.7.1 Service unavailable - try again later"},
	"MAIL, 421":                            {"MAIL", "421 4.3.2 closing"},
	"MAIL, closed":                         {"MAIL", smtptest.Drop},
	"RCPT, relay access denied to all":     {"RCPT", "554 5.7.1 Relay access denied"},
	"RCPT, greylisted":                     {"RCPT", "450 4.2.0 Greylisted"},
	"RCPT, one does not exist":             {"RCPT TO:<a@", "550 5.1.1 User unknown"},
	"RCPT, 452 too many recipients":        {"RCPT TO:<b@", "452 4.5.3 Too many recipients"},
	"RCPT, 421 at the first":               {"RCPT", "421 4.3.2 closing"},
	"RCPT, 421 at the second":              {"RCPT TO:<b@", "421 4.3.2 closing"},
	"RCPT, closed":                         {"RCPT", smtptest.Drop},
	"DATA, 451":                            {"DATA", "451 4.3.0 trouble"},
	"DATA, 421":                            {"DATA", "421 4.3.2 closing"},
	"DATA, closed":                         {"DATA", smtptest.Drop},
	"the message, closed":                  {"<data>", smtptest.Drop},
	"the message, 451 and closed":          {"<data>", smtptest.ThenDrop("451 4.3.0 trouble")},
	"the final dot, 451 4.3.0":             refusedAtDot,
	"the final dot, 451 4.7.1":             {".", "451 4.7.1 Service unavailable - try again later"},
	"the final dot, 452 4.3.1":             {".", "452 4.3.1 Insufficient system storage"},
	"the final dot, 450 without a code":    {".", "450 try again"},
	"the final dot, 452 4.5.3":             {".", "452 4.5.3 Too many recipients"},
	"the final dot, 421":                   {".", "421 4.3.2 closing"},
	"the final dot, closed":                {".", smtptest.Drop},
	"the final dot, an answer out of step": {".", "354 go on"},
}

// batchThenAll makes the first attempts of a batch in its run, and has the runs of its e-mails do the
// rest.
func batchThenAll(ctx workflow.Context, batchID string, ids []string) error {
	if err := workflow.ExecuteChildWorkflow(ctx, email.WorkflowSendBatch, email.SendBatchInput{BatchID: batchID}).Get(ctx, nil); err != nil {
		return err
	}
	return sendAll(ctx, ids)
}

// TestVirtualEveryAttemptSendsTheSameBytes: however attempts end, those that have sent the message
// have one SHA-256 in the journal. It is that of the bytes that arrive. The relays take turns where a
// relay's fault makes the mail go to the other one, and offer different extensions.
func TestVirtualEveryAttemptSendsTheSameBytes(t *testing.T) {
	t.Parallel()
	for name, end := range endings {
		for how, batched := range map[string]bool{"single": false, "batch": true} {
			for relays, alone := range map[string]bool{"one relay": true, "two relays": false} {
				if !alone && end != refusedAtDot {
					continue // it is enough where the mail goes to the other relay each time
				}
				t.Run(name+"/"+how+"/"+relays, func(t *testing.T) {
					t.Parallel()
					v := newVirtual(t)
					v.RegisterWorkflow(batchThenAll)
					var mu sync.Mutex
					plan := []ending{refusedAtDot, end, refusedAtDot}
					answer := func(line string) string {
						mu.Lock()
						defer mu.Unlock()
						if len(plan) == 0 || !strings.HasPrefix(line, plan[0].verb) {
							return ""
						}
						next := plan[0].answer
						plan = plan[1:]
						return next
					}
					v.listen(nil, "", func(_ time.Duration, line string) string { return answer(line) })
					urls := []string{v.peer.Addr() + "?tls=none&name=one"}
					v.peer.Extensions = []string{"SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}
					other := (&smtptest.Peer{NoPipelining: true, Answer: answer}).Start(t)
					if !alone {
						urls = append(urls, other.Addr()+"?tls=none&name=two")
					}
					var list []relay.Relay
					for _, u := range urls {
						r, err := relay.Parse("smtp://" + u)
						require.NoError(t, err)
						list = append(list, r)
					}
					rs := relay.New(list, relay.Options{Now: v.Now, Board: v.store.Mail, MailOf: v.store.Mail.MailOf})
					t.Cleanup(rs.Close)
					v.work(relaySessions{rs})

					m := v.expiring(0)
					m.Subject, m.Text, m.HTML = "Grüße", "Grüße\n.\n", "<p>Grüße</p>"
					m.Headers = []email.Header{{Name: "X-Second", Value: "2"}, {Name: "X-First", Value: "1"}}
					m.To = append(m.To, email.Address{Email: "b@x.test", Name: "Jürgen"})
					var id string
					if batched {
						batch, ids := v.acceptBatch(m)
						id = ids[0]
						v.ExecuteWorkflow(batchThenAll, batch, ids)
						require.True(t, v.IsWorkflowCompleted())
						require.NoError(t, v.GetWorkflowError())
					} else {
						e, _, err := v.store.Mail.Accept(t.Context(), v.customer, m, uuid.NewString(), email.Idempotency{})
						require.NoError(t, err)
						id = e.ID
						v.send(id)
					}

					attempts, _, err := v.store.Mail.Attempts(t.Context(), v.customer, id, 0)
					require.NoError(t, err)
					var sums []string
					for _, a := range attempts {
						if a.MessageSHA256 != "" {
							sums = append(sums, a.MessageSHA256)
						}
					}
					require.GreaterOrEqual(t, len(sums), 2, "%+v", attempts)
					arrived := append(v.peer.Messages(), other.Messages()...)
					require.NotEmpty(t, arrived)
					for _, a := range arrived {
						sum := sha256.Sum256([]byte(a.Data))
						require.Equal(t, sums[0], hex.EncodeToString(sum[:]))
					}
					for _, sum := range sums {
						require.Equal(t, sums[0], sum)
					}
					require.Empty(t, plan, "every ending was met")
				})
			}
		}
	}
}
