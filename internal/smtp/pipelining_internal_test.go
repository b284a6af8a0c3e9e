package smtp

import (
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"syscall"
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

// unwritableConn fails to write, and still has replies to be read.
type unwritableConn struct {
	net.Conn
	replies *strings.Reader
	err     error
}

func (c *unwritableConn) Write([]byte) (int, error)   { return 0, c.err }
func (c *unwritableConn) Read(b []byte) (int, error)  { return c.replies.Read(b) }
func (c *unwritableConn) SetDeadline(time.Time) error { return nil }

// TestRepliesToAGroupThatCouldNotBeWritten: a server that closed the connection may have answered
// a part of the group before. The reply behind a single command is not one to it.
func TestRepliesToAGroupThatCouldNotBeWritten(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		recipients int
		err        error
		want       []int // codes, up to the error
	}{
		"a group":               {2, syscall.EPIPE, []int{250, 550}},
		"a single command":      {0, syscall.EPIPE, nil},
		"a group, out of time":  {2, os.ErrDeadlineExceeded, nil},
		"a command out of time": {0, os.ErrDeadlineExceeded, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := &unwritableConn{replies: strings.NewReader("250 ok\r\n550 5.1.1 nobody\r\n"), err: tc.err}
			x := &exchange{Session: &Session{
				conn: conn, text: textproto.NewConn(conn), timeouts: Timeouts{}.orDefaults(), extensions: map[string]string{"PIPELINING": ""},
			}}
			for i := range tc.recipients {
				x.env.Recipients = append(x.env.Recipients, delivery.EnvelopeRecipient{Address: "r@y.test"})
				x.unnamed = append(x.unnamed, i)
				x.written = append(x.written, false)
			}
			x.sendGroup("MAIL FROM:<a@x.test>")
			var codes []int
			for {
				_, code, _, err := x.nextReply(time.Second)
				if err != nil {
					break
				}
				codes = append(codes, code)
			}
			require.Equal(t, tc.want, codes)
			require.NotEmpty(t, x.out.Transcript[len(x.out.Transcript)-1].Error)
		})
	}
}

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
				x.written = append(x.written, false)
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
