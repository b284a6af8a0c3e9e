package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
)

// TestVirtualAHardBounceEndsLaterMailToTheAddress: also mail that was accepted before it, singly and in a
// batch. The other recipients get theirs.
func TestVirtualAHardBounceEndsLaterMailToTheAddress(t *testing.T) {
	t.Parallel()
	for how, batch := range map[string]bool{"single": false, "batch": true} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			v.listen(nil, "", func(_ time.Duration, line string) string {
				if strings.HasPrefix(line, "RCPT TO:<gone@x.test>") {
					return "550 5.1.1 no such user"
				}
				return ""
			})
			v.connect("", v.peer.Addr())
			to := func(after time.Duration, to ...string) email.Message {
				m := v.expiring(0)
				m.To, m.SendAt = nil, virtualStart.Add(after)
				for _, a := range to {
					m.To = append(m.To, email.Address{Email: a})
				}
				return m
			}
			messages := []email.Message{to(0, "gone@x.test"), to(time.Hour, "gone@x.test", "here@x.test"), to(2*time.Hour, "gone@x.test")}
			var ids []string
			if batch {
				var id string
				id, ids = v.acceptBatch(messages...)
				v.sendBatch(id)
			} else {
				for _, m := range messages {
					var addresses []string
					for _, a := range m.To {
						addresses = append(addresses, a.Email)
					}
					ids = append(ids, v.accept(m.SendAt, addresses...))
				}
				v.send(ids...)
			}
			first, later := ids[0], ids[1]
			requireSuppressed(v, ids[2], email.StatusBounced, email.DetailSuppressed)
			require.Equal(t, []any{email.StatusBounced, email.DetailHard}, []any{v.email(first).Status, v.email(first).Detail})
			requireSuppressed(v, later, email.StatusDelivered, email.DetailPartial)
			require.Equal(t, 1, v.copies(later, "here@x.test"))
			require.Len(t, v.received("RCPT TO:<gone@x.test>"), 1, "it was asked once")
		})
	}
}

// TestVirtualAnAddressIsSuppressedBetweenTwoAttempts.
func TestVirtualAnAddressIsSuppressedBetweenTwoAttempts(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	v.listen(nil, "", func(_ time.Duration, line string) string {
		if strings.HasPrefix(line, "RCPT") {
			return "451 4.2.1 try again later"
		}
		return ""
	})
	v.connect("", v.peer.Addr())
	id := v.accept(time.Time{}, "slow@x.test")
	v.RegisterDelayedCallback(func() {
		keys, err := v.store.Suppressions.Keys(t.Context())
		require.NoError(t, err)
		_, err = v.db.ExecContext(t.Context(), `INSERT INTO public.suppressions (id, customer_id, address_key, address, scope, reason, source)
			VALUES ($1, $2, $3, 'slow@x.test', 'all', 'manual', 'manual')`, uuid.NewString(), v.customer, keys.Key("slow@x.test"))
		require.NoError(t, err)
	}, 10*time.Minute)
	v.send(id)
	requireSuppressed(v, id, email.StatusBounced, email.DetailSuppressed)
	for _, at := range v.received("RCPT") {
		require.Less(t, at, 10*time.Minute)
	}
	require.Len(t, v.happened(id, email.EventSuppressed, email.EventCompleted), 2)
}

func requireSuppressed(v *virtual, id string, status email.Status, detail email.Detail) {
	v.t.Helper()
	e := v.email(id)
	require.Equal(v.t, []any{status, detail}, []any{e.Status, e.Detail})
	require.Equal(v.t, email.RecipientSuppressed, e.Recipients[0].Status)
	require.NotEmpty(v.t, e.Recipients[0].SuppressedBy)
}
