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

// TestVirtualClosedAtOneRecipientDelaysNoOther: the others go together. Nor do several such recipients.
func TestVirtualClosedAtOneRecipientDelaysNoOther(t *testing.T) {
	t.Parallel()
	for _, places := range [][]int{{0}, {1}, {20}, {0, 1}, {5, 30}, {1, 3, 20}} {
		t.Run(fmt.Sprint("at places ", places), func(t *testing.T) {
			t.Parallel()
			v := newVirtual(t)
			to := fortyRecipients()
			closes := map[string]bool{}
			for _, place := range places {
				closes["RCPT TO:<"+to[place]+">"] = true
			}
			v.listen(nil, "", func(at time.Duration, line string) string {
				if at < 2*time.Hour && closes[line] {
					return smtptest.ThenDrop(closesAtRcpt)
				}
				return ""
			})
			v.connect("", v.peer.Addr())
			id := v.accept(time.Time{}, to...)
			v.send(id)

			require.Equal(t, email.StatusDelivered, v.email(id).Status)
			for _, a := range to {
				require.Equal(t, 1, v.copies(id, a), a)
			}
			good := v.happened(id, email.EventDelivered)[len(to)-len(places)-1] // the last of the others
			require.Less(t, good, 2*time.Minute)
			transactions := 0
			for _, at := range v.received("MAIL") {
				if at <= good {
					transactions++
				}
			}
			require.LessOrEqual(t, transactions, 3*len(places))
			require.LessOrEqual(t, len(v.happened(id, email.EventDeferred)), 10*len(places), "of these recipients alone")
		})
	}
}
