package smtp

import (
	"fmt"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/postrider/postrider/internal/delivery"
)

// recorder is a connection that keeps each write.
type recorder struct {
	net.Conn
	writes []string
}

func (r *recorder) Write(b []byte) (int, error) {
	r.writes = append(r.writes, string(b))
	return len(b), nil
}
func (r *recorder) SetDeadline(time.Time) error { return nil }

func TestSendGroup(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		address                string
		recipients, limit      int
		accepted, alone        int
		offers, refused, known bool
		want                   []int // commands of each group
	}{
		"all":                       {address: "r%d@y.test", recipients: 50, offers: true, want: []int{51}},
		"at most 100":               {address: "r%d@y.test", recipients: 250, offers: true, want: []int{100, 100, 51}},
		"at most 4 KiB":             {address: strings.Repeat("x", 480) + "%d@y.test", recipients: 20, offers: true, want: []int{9, 8, 4}},
		"one that is longer":        {address: strings.Repeat("x", 5000) + "%d@y.test", recipients: 2, offers: true, want: []int{1, 1, 1}},
		"up to the limit":           {address: "r%d@y.test", recipients: 9, limit: 4, offers: true, want: []int{5, 4, 1}},
		"what the limit leaves":     {address: "r%d@y.test", recipients: 3, limit: 4, accepted: 3, offers: true, want: []int{2, 1, 1}},
		"some of them alone":        {address: "r%d@y.test", recipients: 5, alone: 2, offers: true, want: []int{4, 1, 1}},
		"all of them alone":         {address: "r%d@y.test", recipients: 2, alone: 2, offers: true, want: []int{1, 1, 1}},
		"without PIPELINING":        {address: "r%d@y.test", recipients: 3, want: []int{1, 1, 1, 1}},
		"with it turned off":        {address: "r%d@y.test", recipients: 2, offers: true, refused: true, want: []int{1, 1, 1}},
		"where it is known to fail": {address: "r%d@y.test", recipients: 2, offers: true, known: true, want: []int{1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &recorder{}
			x := &exchange{
				Session: &Session{conn: conn, text: textproto.NewConn(conn), timeouts: Timeouts{}.orDefaults(), server: Server{NoPipelining: tc.refused}, oneByOne: tc.known},
				limit:   tc.limit, alone: tc.alone, accepted: make([]int, tc.accepted),
			}
			if tc.offers {
				x.extensions = map[string]string{"PIPELINING": ""}
			}
			for i := range tc.recipients {
				x.env.Recipients = append(x.env.Recipients, delivery.EnvelopeRecipient{Address: fmt.Sprintf(tc.address, i)})
				x.unnamed = append(x.unnamed, i)
			}
			var groups []int
			all := 0
			for mail := "MAIL FROM:<a@x.test>"; mail != "" || len(x.unnamed) > 0; mail = "" {
				x.sendGroup(mail)
				require.NoError(t, x.sendErr)
				groups = append(groups, len(x.inFlight))
				for _, c := range x.inFlight {
					require.Equal(t, len(x.inFlight) > 1, c.grouped)
				}
				all += len(x.inFlight)
				x.inFlight = nil
			}
			require.Equal(t, tc.want, groups)
			require.Equal(t, 1+tc.recipients, all)
			require.Equal(t, 1+tc.recipients, strings.Count(strings.Join(conn.writes, ""), "\r\n"))
			if len(tc.address) > maxGroupBytes {
				return
			}
			require.Len(t, conn.writes, len(groups), "a group is one write")
			for _, w := range conn.writes {
				require.LessOrEqual(t, len(w), maxGroupBytes)
			}
		})
	}
}
