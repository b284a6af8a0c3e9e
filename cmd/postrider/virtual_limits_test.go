package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/smtptest"
)

const closesAtRcpt = "421 4.7.0 closing the connection"

func fortyRecipients() []string {
	to := make([]string, 40)
	for i := range to {
		to[i] = fmt.Sprintf("r%d@x.test", i)
	}
	return to
}

// TestVirtualSplitTransactionsEmitOneEventEach: a relay closes the connection at the fourth
// RCPT. A recipient that waits for a later transaction gets no deferred event each time.
func TestVirtualSplitTransactionsEmitOneEventEach(t *testing.T) {
	t.Parallel()
	v := newVirtual(t)
	named := 0
	v.listen(nil, "", func(_ time.Duration, line string) string {
		switch {
		case strings.HasPrefix(line, "MAIL"):
			named = 0
		case strings.HasPrefix(line, "RCPT"):
			if named++; named > 3 {
				return smtptest.ThenDrop(closesAtRcpt)
			}
		}
		return ""
	})
	v.connect("", v.peer.Addr())
	to := fortyRecipients()
	id := v.accept(time.Time{}, to...)
	v.send(id)

	require.Equal(t, email.StatusDelivered, v.email(id).Status)
	for _, a := range to {
		require.Equal(t, 1, v.copies(id, a), a)
	}
	require.LessOrEqual(t, len(v.happened(id, email.EventDeferred)), 2, "who was named when the limit was not known yet")
	require.LessOrEqual(t, len(v.happened(id, email.EventSending)), 20, "14 transactions, and those that found out the limit")
	for _, r := range v.email(id).Recipients {
		require.LessOrEqual(t, r.Attempts, 2)
	}
}

// TestVirtualClosedAtOneRecipientDelaysNoOther: the others go together.
func TestVirtualClosedAtOneRecipientDelaysNoOther(t *testing.T) {
	t.Parallel()
	for _, place := range []int{0, 1, 20} {
		t.Run(fmt.Sprint("at place ", place+1), func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			v.listen(nil, "", until(2*time.Hour, "RCPT TO:<r"+fmt.Sprint(place)+"@", smtptest.ThenDrop(closesAtRcpt)))
			v.connect("", v.peer.Addr())
			to := fortyRecipients()
			id := v.accept(time.Time{}, to...)
			v.send(id)

			require.Equal(t, email.StatusDelivered, v.email(id).Status)
			for _, a := range to {
				require.Equal(t, 1, v.copies(id, a), a)
			}
			good := v.happened(id, email.EventDelivered)[38] // the 39th is the last of the others
			require.Less(t, good, 2*time.Minute)
			transactions := 0
			for _, at := range v.received("MAIL") {
				if at <= good {
					transactions++
				}
			}
			require.LessOrEqual(t, transactions, 3)
			require.LessOrEqual(t, len(v.happened(id, email.EventDeferred)), 10, "of that recipient alone")
		})
	}
}
