package relay

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/smtp"
)

// Mails at which a relay closes its connections at the same time are one round: they do not lengthen
// each other's waits.
func TestMailsThatARelayClosesOnAtOnceWaitEquallyLong(t *testing.T) {
	t.Parallel()
	var l rcptLimit
	now := time.Now()
	for _, want := range []time.Duration{10, 20, 40, 80, 160, 300, 300} {
		want *= time.Second
		for range 8 {
			wait, _ := l.closedAt(now, smtp.RcptClose{Recipient: 1, Accepted: 1, Wanted: 3, OnConnection: 1, Said421: true}, false)
			require.Equal(t, want, wait)
			now = now.Add(time.Second)
		}
		now = now.Add(want - 8*time.Second) // the first of them comes again
	}
	l.delivered(now, 1, 1, false)
	wait, _ := l.closedAt(now, smtp.RcptClose{Recipient: 1, Wanted: 3}, false)
	require.Equal(t, 10*time.Second, wait)
}
