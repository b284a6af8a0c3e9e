package relay

import (
	"context"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Session is a connection to a relay that the caller has to itself until Close. It is used
// by one goroutine at a time.
type Session struct {
	conn *smtp.Session
	pool *pool
	// probe: the relay was down, and this session finds out whether it still is. fresh: it
	// was given for mail that the relay had not refused yet.
	probe, fresh bool
	// broadcast: broadcast mail has it.
	broadcast bool
	// freeSlot gives its slot back.
	freeSlot func()
	// alternative: another relay takes this mail too.
	alternative bool
	// elsewhere: a relay that may take what this one cannot is asked again after that time.
	// 0: there is none.
	elsewhere time.Duration
	// lastResort: every relay of the route was judged, and none takes all of the message.
	lastResort bool
	// avoids names the relay whose fault ended the last attempt, as delivery.Route's Avoid.
	avoids string

	dialedAt, idleAt time.Time
	// reused: it came from the pool, so its server may have closed it meanwhile.
	reused bool
}

// Relay names the server.
func (s *Session) Relay() email.Relay { return s.pool.relay.Identity() }

// Close gives the session back, for others to use if it is still good. Close is called once,
// and no method after it.
func (s *Session) Close() { s.pool.release(s) }

// Send runs one transaction (smtp.Session.Send) and notes what it shows about the relay.
func (s *Session) Send(ctx context.Context, env delivery.Envelope, message []byte, mark func(context.Context, []delivery.Outcome) error) delivery.Exchange {
	untried := s.alternative && !s.lastResort
	h := &history{pool: s.pool, env: env, mail: delivery.MailCommand{From: env.From, Bytes: int64(len(message))}}
	res := s.conn.Send(ctx, smtp.Transaction{
		Envelope: env, Message: message, Mark: mark, History: h, Reused: s.reused, OneByOne: s.pool.breaksPipelining(), Refuses: s.pool.currentLimits(),
		Others: smtp.OtherRelays{Exist: s.alternative, MayTakeIt: untried, AfterFault: untried && s.avoids == "", AskAgainIn: s.elsewhere},
	})
	s.reused, s.elsewhere = false, res.AskOthersIn
	if res.Redialed {
		s.dialedAt = s.pool.opts.Now()
	}
	s.pool.noteResult(s, h, res)
	return res.Exchange
}

// fits says how much of a message the relay takes.
func (s *Session) fits(env delivery.Envelope, message []byte) smtp.Fit {
	return s.conn.Fits(env, message, s.pool.currentLimits())
}

// full reports whether the connection has had as many recipients as the relay allows.
func (s *Session) full() bool {
	limit := s.pool.rcpts.perSession(s.pool.opts.Now())
	return limit > 0 && s.conn.Recipients() >= limit
}

// hasHadItsShare reports whether the session has been in use for long enough where connections wait
// for a process of the relay.
func (s *Session) hasHadItsShare() bool {
	return s.conn.Transactions() >= roomMessages || s.pool.opts.Now().Sub(s.dialedAt) >= roomAfter
}
