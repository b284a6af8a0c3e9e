package safehttp_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// nameServer answers questions for A records from a script: each question
// takes the next entry, the last one repeats. AAAA questions get no records. It
// speaks DNS (RFC 1035) over UDP, so that the client's own resolver is used.
type nameServer struct {
	mu      sync.Mutex
	answers [][]netip.Addr
	asked   int
}

func newNameServer(t *testing.T, answers ...[]netip.Addr) (*nameServer, *net.Resolver) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &nameServer{answers: answers}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return // closed
			}
			if _, err := pc.WriteTo(s.reply(buf[:n]), from); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, pc.Close())
		<-done
	})
	return s, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func (s *nameServer) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *nameServer) reply(q []byte) []byte {
	end := 12
	for q[end] != 0 {
		end += int(q[end]) + 1
	}
	end += 5 // the root label, type, class
	var addrs []netip.Addr
	if binary.BigEndian.Uint16(q[end-4:]) == 1 {
		s.mu.Lock()
		addrs = s.answers[min(s.asked, len(s.answers)-1)]
		s.asked++
		s.mu.Unlock()
	}
	out := append([]byte(nil), q[:end]...)
	binary.BigEndian.PutUint16(out[2:], 0x8180)             // a response, recursion available
	binary.BigEndian.PutUint16(out[6:], uint16(len(addrs))) // answers
	binary.BigEndian.PutUint16(out[8:], 0)                  // authorities
	binary.BigEndian.PutUint16(out[10:], 0)                 // additionals: the question's EDNS goes
	for _, a := range addrs {
		ip := a.As4()
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // the question's name, A, IN, TTL 0
		out = append(out, ip[:]...)
	}
	return out
}
