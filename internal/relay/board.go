package relay

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/delivery"
	"github.com/postrider/postrider/internal/smtp"
)

// Board is where all processes note which relays fail, and agree on who probes one. A
// relay is known there by its name and address.
type Board interface {
	// RelayFailed notes a failure and returns the state that all processes then see. Failures
	// of sessions that were open when the relay went away count as one. A failure of the
	// process that probes (owner), or of any process after the backoff, counts as another.
	RelayFailed(ctx context.Context, st delivery.RelayState, owner string) (delivery.RelayState, error)
	// RelayRecovered notes that a relay works.
	RelayRecovered(ctx context.Context, name, address string) error
	// ClaimProbe asks for the right to probe a relay for a time. Where it is not granted,
	// the state says why: the relay works, is left alone, or another process probes it.
	ClaimProbe(ctx context.Context, name, address, owner string, lease time.Duration) (granted bool, st delivery.RelayState, err error)
	// ReleaseProbe gives the right back where nothing was found out.
	ReleaseProbe(ctx context.Context, name, address, owner string) error
	// ForgetRelay removes a state that no process has probed for that time after its backoff.
	ForgetRelay(ctx context.Context, name, address string, after time.Duration) error
	// RelayStates lists the relays that fail, and those that have failed and work again.
	RelayStates(ctx context.Context) ([]delivery.RelayState, error)
	// RelayWaits lists what the e-mails that wait for a relay say.
	RelayWaits(ctx context.Context) ([]delivery.RelayWait, error)
	// ChangeRelayWait replaces what such e-mails say, and wakes their runs. It returns how many it
	// changed.
	ChangeRelayWait(ctx context.Context, from delivery.RelayWait, to delivery.Obstacle) (int, error)
	// WakeRelayWait wakes the runs of such e-mails that are due: a relay works again. It returns how
	// many they are. E-mails that a relay refused keep their own waits, and are woken only if they were
	// due at dueBy.
	WakeRelayWait(ctx context.Context, w delivery.RelayWait, dueBy time.Time) (int, error)
}

// forgetAfter is how long the state of a failing relay is kept that has one of our names and
// another address. It is taken for the relay of another process, which may be away.
const forgetAfter = 10 * time.Minute

const (
	// boardTimeout bounds a call of the board: an exchange's end waits for it.
	boardTimeout = 2 * time.Second
	// probeLease is how long one process has to find out whether a relay works.
	probeLease = 2 * time.Minute
	// probeCommand bounds the answer to a probe's MAIL.
	probeCommand = time.Minute
	// syncEvery is how soon a process hears of what another has met.
	syncEvery = 5 * time.Second
)

// everywhere are the codes of answers that mean the same for every process: the relay
// does not take our credentials, or wants some (RFC 4954 section 6).
var everywhere = []int{432, 454, wantsLogin, 534, 535, 538}

// wantsLogin is the one of these that a relay gives to commands after the greeting as well.
const wantsLogin = 530

// isOfSettings reports whether a fault may be one of settings that are no longer: a login, or a return path of
// our own. A process that starts, and that the relay answers, finds that out by itself.
func isOfSettings(st delivery.RelayState) bool {
	return isLoginFault(st) || st.Mail != nil && delivery.IsReturnPath(st.Mail.From)
}

// isLoginFault reports whether a fault is that the relay does not take our credentials. A process
// that has signed in knows that it does.
func isLoginFault(st delivery.RelayState) bool {
	return st.Mail == nil && st.Reply.Code != wantsLogin && slices.Contains(everywhere, st.Reply.Code)
}

// isNoGreeting reports whether a fault is that a process got no greeting. The relay may have no process
// left for its connection, because others have them all.
func isNoGreeting(st delivery.RelayState) bool {
	return st.Failures > 0 && st.Reply.Code == 0 && strings.HasPrefix(causeOf(st).Error(), smtp.NoGreeting)
}

// isRefusedConnection reports whether a fault is that the relay refused a process's connection by
// 421. It may have too many connections of the others.
func isRefusedConnection(st delivery.RelayState) bool {
	return st.Failures > 0 && !st.Shared && st.Reply.Code == 421 && strings.Contains(causeOf(st).Error(), smtp.WasAnswered+"421")
}

// admit lets a caller through; probe says that it is the one who finds out, for all
// processes where they know of the fault. Mail that the relay has not refused yet may probe
// without asking them.
func (p *pool) admit(ctx context.Context, fresh bool) (probe bool, down *delivery.RelayError) {
	probe, down = p.breaker.admit(p.opts.Now(), fresh)
	if down != nil || !probe || p.opts.Board == nil || !p.breaker.isShared() || fresh && p.breaker.isDoubtful() {
		return probe, down
	}
	ctx, cancel := context.WithTimeout(ctx, boardTimeout)
	defer cancel()
	granted, st, err := p.opts.Board.ClaimProbe(ctx, p.relay.Name, p.relay.Addr(), p.owner, probeLease)
	if err != nil { // the database is away: this process finds out by itself
		p.opts.Log.WarnContext(ctx, "relay.board", "relay", p.relay.Name, "error", err)
		return true, nil
	}
	if granted {
		return true, nil
	}
	p.breaker.releaseProbe()
	if st.Failures > 0 {
		st.RetryAfter = cmp.Or(st.RetryAfter, firstBackoff) // another process is probing it
	}
	if p.adopt(st, false) {
		p.opts.Log.InfoContext(ctx, "relay.up", "relay", p.relay.Name)
	}
	return p.breaker.admit(p.opts.Now(), fresh)
}

// adopt takes over what all processes know. It reports whether the relay went down or came
// back for this process. anew: the fault may be of former settings, so a connection shows that the relay
// works.
func (p *pool) adopt(st delivery.RelayState, anew bool) (changed bool) {
	now := p.opts.Now()
	if anew {
		st.Mail = nil
	}
	if st.Failures > 0 && st.Mail != nil {
		if p.breaker.up() && p.guard.refusesPath(*st.Mail) {
			return false // another process does not know yet that the relay takes other mail
		}
		p.guard.noteFault(now, "", st.Mail)
	}
	return p.breaker.adopt(now, p.relay.Identity(), st, anew || isLoginFault(st))
}

// releaseProbe ends a probe that found nothing out.
func (p *pool) releaseProbe() {
	shared := p.breaker.isShared()
	p.breaker.releaseProbe()
	if p.opts.Board == nil || !shared {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), boardTimeout)
	defer cancel()
	if err := p.opts.Board.ReleaseProbe(ctx, p.relay.Name, p.relay.Addr(), p.owner); err != nil {
		p.opts.Log.Warn("relay.board", "relay", p.relay.Name, "error", err)
	}
}

// failed notes that the relay does not work. It answers how long it is left alone.
func (p *pool) failed(e *delivery.RelayError, how failure) time.Duration {
	p.tried.Store(true)
	defer p.lookAgain()
	if !how.inTransaction && smtp.NamesList(e.Reply) { // instead of a greeting; noteResult counts those of a transaction
		p.noteBlocked(p.opts.Now(), 1, email.Reply{Code: e.Reply.Code, Enhanced: e.Reply.Enhanced, Text: email.MaskText(e.Reply.Text, p.relay.User)})
	}
	if m, ok := p.breaker.refusedMail(); ok && !how.inTransaction {
		// That the relay cannot be reached now does not say that it takes MAIL again.
		how.inTransaction, how.mail = true, &m
	}
	wait, first := p.breaker.failed(p.opts.Now(), e, how)
	if !first {
		return wait
	}
	return cmp.Or(p.report(e, how), wait)
}

// report tells the other processes of a failure. It answers how long all of them leave
// the relay alone; 0 where that is this process's own matter.
func (p *pool) report(e *delivery.RelayError, how failure) time.Duration {
	if p.opts.Board == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), boardTimeout)
	defer cancel()
	reply := e.Reply
	if reply.Code == 0 {
		reply.Text = oneLine(e.Err)
	}
	reply.Text = email.MaskText(reply.Text, p.relay.User)
	cause := email.MaskText(oneLine(e.Err), p.relay.User)
	st, err := p.opts.Board.RelayFailed(ctx, delivery.RelayState{
		Name: p.relay.Name, Address: p.relay.Addr(), Reply: reply, Cause: cause, Mail: how.mail,
		Shared: how.inTransaction && (!how.perhaps || how.mail != nil) || slices.Contains(everywhere, e.Reply.Code),
	}, p.owner)
	if err != nil {
		p.opts.Log.Warn("relay.board", "relay", p.relay.Name, "error", err)
		return 0
	}
	if !st.Shared {
		return 0
	}
	p.adopt(st, false)
	return st.RetryAfter
}

// answered notes that the relay has dealt with us.
func (p *pool) answered() {
	p.tried.Store(true)
	p.answeredAt.Store(p.opts.Now().UnixNano())
	p.answers.Add(1)
}

// recovered tells that the relay works again.
func (p *pool) recovered() {
	p.opts.Log.Info("relay.up", "relay", p.relay.Name)
	if p.opts.Board == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), boardTimeout)
	defer cancel()
	if err := p.opts.Board.RelayRecovered(ctx, p.relay.Name, p.relay.Addr()); err != nil {
		p.opts.Log.Warn("relay.board", "relay", p.relay.Name, "error", err)
	}
}

// sync takes over what other processes know.
func (rs *Relays) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, boardTimeout)
	defer cancel()
	states, err := rs.opts.Board.RelayStates(ctx)
	if err != nil {
		return err
	}
	for _, p := range rs.pools {
		var st delivery.RelayState // of one that is not listed: it works
		for _, s := range states {
			switch {
			case s.Name != p.relay.Name:
			case s.Address == p.relay.Addr():
				st = s
			case s.Failures > 0: // it has moved, or another process finds it elsewhere
				if err := rs.opts.Board.ForgetRelay(ctx, s.Name, s.Address, forgetAfter); err != nil {
					return err
				}
			}
		}
		p.sync(ctx, st)
	}
	return nil
}

func (p *pool) sync(ctx context.Context, st delivery.RelayState) {
	now := p.opts.Now()
	answered := p.breaker.up() && now.Sub(time.Unix(0, p.answeredAt.Load())) < syncEvery
	// A process that has just started may have better credentials: it finds out at once, or
	// has done so already.
	first := !p.synced.Swap(true) && (answered || !p.tried.Load())
	if refused := isRefusedConnection(st); refused || isNoGreeting(st) {
		p.makeRoom(answered, refused)
	}
	if st.Failures > 0 && answered && (!st.Shared || first && isOfSettings(st)) {
		p.recovered() // the process that met the fault may be gone, or had other settings
		return
	}
	if first {
		st.RetryAfter = 0
	}
	if !p.adopt(st, first && isOfSettings(st)) {
		p.lookAgain() // the backoff may be over
		return
	}
	if first {
		p.breaker.keepLocal()
	}
	if st.Failures == 0 {
		p.opts.Log.InfoContext(ctx, "relay.up", "relay", p.relay.Name, "told", true)
		return
	}
	p.tried.Store(true)
	p.opts.Log.WarnContext(ctx, "relay.down", "relay", p.relay.Name, "told", true, "code", st.Reply.Code, "enhanced", st.Reply.Enhanced)
}
