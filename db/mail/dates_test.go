package mail_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/db/internal/dbsetup"
	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
)

// TestAMessageThatWasSentKeepsItsDate: a relay's fault takes an attempt back, and the time until expiry
// has not begun. The message keeps its Date header if bytes of it were sent in any attempt.
func TestAMessageThatWasSentKeepsItsDate(t *testing.T) {
	t.Parallel()
	data := []email.Step{{Command: "MAIL FROM:<shop@acme.test>", Reply: email.Reply{Code: 250}}, {Command: "DATA", Reply: email.Reply{Code: 354}}}
	refused := []email.Step{data[0], {Command: "DATA", Reply: email.Reply{Code: 451}}}
	for name, tt := range map[string]struct {
		mark       bool
		transcript []email.Step
		// second is the outcome of the second recipient.
		second func(delivery.EnvelopeRecipient) delivery.Outcome
		keeps  bool
	}{
		"refused at the final dot":                       {true, data, relayFault, true},
		"refused at the final dot, one waits for a turn": {true, data, waitsForItsTurn, true},
		"cut off within the message":                     {false, data, relayFault, true},
		"refused at DATA":                                {false, refused, relayFault, false},
		"no relay was there":                             {false, nil, relayFault, false},
	} {
		for by, record := range map[string]func(*bench, delivery.Ending) error{
			"Record": func(b *bench, e delivery.Ending) error {
				if _, err := b.Mail.Finish(b.Ctx, []delivery.Ending{e}); err != nil {
					return err
				}
				_, err := b.Mail.Record(b.Ctx, delivery.RecordStatusInput{EmailID: e.EmailID, Attempt: e.Attempt})
				return err
			},
			"Conclude": func(b *bench, e delivery.Ending) error { _, err := b.Mail.Conclude(b.Ctx, e); return err },
			"RecordBatch": func(b *bench, e delivery.Ending) error {
				_, err := b.Mail.RecordBatch(b.Ctx, []delivery.Ending{e})
				return err
			},
		} {
			t.Run(name+"/"+by, func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				id := b.Accept(dbsetup.Message("a@x.test", "b@x.test")).ID
				attempt := func(n int, mark bool, transcript []email.Step, first, second func(delivery.EnvelopeRecipient) delivery.Outcome) time.Time {
					b.DueNow(id)
					owner := uuid.NewString()
					o, err := b.Mail.Open(b.Ctx, delivery.OpenRequest{EmailID: id, Attempt: n, Owner: owner, Relay: dbsetup.Relay})
					require.NoError(t, err)
					require.Equal(t, delivery.VerdictOpened, o.Verdict)
					e := delivery.Ending{EmailID: id, Attempt: n, Owner: owner, Relay: dbsetup.Relay, Transcript: transcript}
					for i, r := range o.Recipients {
						out := first(r)
						if i > 0 {
							out = second(r)
						}
						out.RecipientID = r.ID
						e.Outcomes = append(e.Outcomes, out)
					}
					if mark {
						require.NoError(t, b.Mark(id, n, owner, e.Outcomes...))
					}
					require.NoError(t, record(b, e))
					return o.Date
				}
				date := attempt(1, tt.mark, tt.transcript, relayFault, tt.second)
				require.False(t, date.IsZero())
				again := attempt(2, false, nil, relayFault, relayFault) // before DATA
				require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE date_at IS NULL"), "the time until expiry has not begun")
				last := attempt(3, true, data, dbsetup.Deferred, dbsetup.Deferred)
				require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE date_at > ?", last.Add(-time.Microsecond)), "it has begun")
				if tt.keeps {
					require.Equal(t, date, again)
					require.Equal(t, date, last)
					require.Equal(t, 1, b.Count("SELECT count(*) FROM emails WHERE date_at > ?", date), "it began with the third attempt")
				} else {
					require.True(t, last.After(date), "nothing was sent of it before")
				}
				require.Equal(t, last, attempt(4, false, nil, relayFault, relayFault))
				require.Equal(t, last, attempt(5, true, data, dbsetup.Delivered, dbsetup.Delivered))
			})
		}
	}
}
