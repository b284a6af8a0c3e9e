package relay_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/logtest"
	"github.com/postrider/postrider/internal/relay"
	"github.com/postrider/postrider/internal/smtptest"
)

const spamhaus = "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org"

// TestTheOperatorIsToldOfBlocks: by a count, and by a warning at most every ten minutes.
func TestTheOperatorIsToldOfBlocks(t *testing.T) {
	t.Parallel()
	c := newClock()
	var log logtest.Buffer
	p := refusing(t, map[string]string{"": spamhaus})
	rs := relays(t, relay.Options{Now: c.now, Log: slog.New(slog.NewTextHandler(&log, nil))}, url(p, "&accepts=final"))
	for range 3 {
		for _, o := range send(t, rs, envelope("a@y.test", "b@z.test"), noMark).Outcomes {
			require.Equal(t, email.RecipientDeferred, o.Status)
			require.Equal(t, email.DetailIPBlocked, o.Reason)
			require.False(t, o.RelayFault)
			require.False(t, o.Suppress)
		}
	}
	require.Nil(t, rs.Down(delivery.Route{}), "the server takes other mail")
	require.Equal(t, map[string]int64{"127.0.0.1": 3}, rs.Blocked(), "one reply to several recipients is one")
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN msg=relay.ip_blocked"))
	require.Contains(t, log.String(), "relay=127.0.0.1 replies=1 code=554 enhanced=5.7.1")
	c.move(11 * time.Minute)
	send(t, rs, envelope("a@y.test"), noMark)
	require.Contains(t, log.String(), "replies=3 code=554")
}

// TestABlockThatIsTheRelaysFaultIsCountedToo: a relay that passes mail on, and one that refuses the connection.
func TestABlockThatIsTheRelaysFaultIsCountedToo(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]*smtptest.Peer{
		"at RCPT":         refusing(t, map[string]string{"": spamhaus}),
		"at the greeting": (&smtptest.Peer{Greeting: spamhaus}).Start(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rs := relays(t, relay.Options{}, url(p, ""))
			if s, err := rs.Session(t.Context(), delivery.Route{}); err == nil {
				ex := s.Send(t.Context(), envelope("a@y.test"), []byte(rendered), noMark)
				s.Close()
				require.True(t, ex.Outcomes[0].RelayFault)
			}
			require.Equal(t, map[string]int64{"127.0.0.1": 1}, rs.Blocked())
		})
	}
}
