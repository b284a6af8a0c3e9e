package dnslookup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/miekg/dns"
)

var (
	errTruncated = errors.New("the answer is truncated")
	errMalformed = errors.New("the answer is malformed")
)

// query asks one server one question: over UDP, and over TCP if the answer does not fit
// into a packet (RFC 7766).
func (l *lookup) query(ctx context.Context, server, name string, typ uint16, recursive bool) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(name, typ)
	q.RecursionDesired = recursive
	q.SetEdns0(udpBytes, false)
	m, err := l.exchange(ctx, "udp", server, q)
	if err == nil && m.Rcode == dns.RcodeFormatError {
		// A server from before EDNS (RFC 6891, section 7).
		q.Id, q.Extra = dns.Id(), nil
		m, err = l.exchange(ctx, "udp", server, q)
	}
	if errors.Is(err, errTruncated) {
		q.Id = dns.Id()
		m, err = l.exchange(ctx, "tcp", server, q)
	}
	return m, err
}

// exchange sends one message and reads its answer. The socket is new each time, so that
// its port is random and a forged answer has to guess it.
func (l *lookup) exchange(ctx context.Context, network, server string, q *dns.Msg) (*dns.Msg, error) {
	if l.queries.Add(1) > maxQueries {
		return nil, fmt.Errorf("the lookup takes more than %d queries", maxQueries)
	}
	ctx, end := context.WithTimeout(ctx, l.options.TryTimeout)
	defer end()
	raw, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, l.describe(ctx, err)
	}
	conn := &dns.Conn{Conn: raw, UDPSize: udpBytes}
	defer func() { _ = conn.Close() }() // nothing is left to be written
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.WriteMsg(q); err != nil {
		return nil, l.describe(ctx, err)
	}
	for {
		var header dns.Header
		packet, err := conn.ReadMsgHeader(&header)
		if errors.Is(err, dns.ErrShortRead) {
			return nil, errMalformed
		}
		if err != nil {
			return nil, l.describe(ctx, err)
		}
		if header.Id != q.Id {
			continue // the answer to another query, or a forged one
		}
		return read(packet, header, network, q)
	}
}

const truncated = 1 << 9 // the bit TC of a header, RFC 1035, section 4.1.1

// read checks that a packet answers the question.
func read(packet []byte, header dns.Header, network string, q *dns.Msg) (*dns.Msg, error) {
	if header.Bits&truncated != 0 {
		if network == "tcp" {
			return nil, errMalformed
		}
		return nil, errTruncated
	}
	if len(packet) > maxAnswerBytes {
		return nil, fmt.Errorf("the answer has %d bytes, limit %d", len(packet), maxAnswerBytes)
	}
	m := new(dns.Msg)
	if err := m.Unpack(packet); err != nil || !m.Response {
		return nil, errMalformed
	}
	if len(m.Question) == 0 && m.Rcode != dns.RcodeSuccess {
		return m, nil // FORMERR without the question
	}
	if len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype ||
		dns.CanonicalName(m.Question[0].Name) != q.Question[0].Name {
		return nil, errMalformed
	}
	return m, nil
}

// describe makes an error of the network one for people. It has no addresses.
func (l *lookup) describe(ctx context.Context, err error) error {
	var timeout net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer within %s", l.options.TryTimeout)
	}
	return errors.New("no connection")
}
