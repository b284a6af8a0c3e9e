package smtp

import (
	"time"

	"github.com/postrider/postrider/email"
)

// History is what earlier transactions with a server have shown. Send asks it where a reply
// can mean several things, and tells it what other transactions of the server must know
// before this one ends. One value serves one transaction; i is the index of a recipient in
// the envelope.
type History interface {
	// RecipientLimit is how many recipients a transaction may have on a connection that has
	// had n; 0 means that no limit is known. said: the server said so itself.
	RecipientLimit(n int) (limit int, said bool)
	// NameLast reports whether the server had a fault at recipient i, or refused it, and has
	// not accepted it since. Such recipients are named last.
	NameLast(i int) bool
	// TookMail notes that the server took MAIL.
	TookMail()
	// Accepted notes that the server accepted recipient i.
	Accepted(i int)
	// OwnFault notes a fault of the server at MAIL, at the RCPT of recipient i, or at the
	// message. It reports whether the fault is the mail's own: the server takes other mail. A
	// fault that would end the mail (permanent) also has to last. i is used at StageRcpt only.
	OwnFault(at Stage, i int, permanent bool) bool
	// Refused decides what a refusal of recipient i means that may be about us. It is asked
	// where the transaction has no accepted recipient.
	Refused(i int, r email.Reply, how Suspicion) Ruling
	// ClosedAtRcpt notes that the server closed the connection at a RCPT. wait is the time
	// for which recipients wait that had no part in it.
	ClosedAtRcpt(c RcptClose) (wait time.Duration, cause CloseCause)
}

// Ruling is what a refusal means.
type Ruling struct {
	// Final: the refusal stands. Else the recipient is asked again after Wait.
	Final bool
	Wait  time.Duration
	// Pattern: the server refuses recipients who have nothing in common, so the refusal is
	// about us.
	Pattern bool
	// Accepts: the server has accepted others since the recipient's first refusal.
	Accepts bool
}

// RcptClose is a connection that the server closed at RCPT.
type RcptClose struct {
	// Recipient is the index of the recipient named there; -1 where the transaction goes on
	// with the same recipient on another connection.
	Recipient int
	// Accepted are the recipients accepted in the transaction, of Wanted that were to be
	// named. OnConnection are those accepted on the connection, over all its transactions.
	Accepted, Wanted, OnConnection int
	// Refused are the recipients refused for good in the transaction. A server may close the
	// connection for their number.
	Refused int
	// Redialed: it was the transaction's second connection, and no recipient was accepted on
	// it.
	Redialed bool
	// Said421: the server answered 421. Without a reply the recipient may be the reason.
	Said421 bool
}

// CloseCause is why a server most likely closed a connection at RCPT.
type CloseCause int

const (
	// CauseUnknown: because of the recipient, a limit, or the server itself.
	CauseUnknown CloseCause = iota
	// CauseConnection: the connection has had recipients in other transactions. The recipient
	// is asked again on another one, and is the cause if that is closed as well.
	CauseConnection
	// CauseTransaction: the recipient was one too many for a transaction.
	CauseTransaction
)

// noHistory is the History of a server of which nothing is known: each reply means what it
// says.
type noHistory struct{}

func (noHistory) RecipientLimit(int) (int, bool)                     { return 0, false }
func (noHistory) NameLast(int) bool                                  { return false }
func (noHistory) TookMail()                                          {}
func (noHistory) Accepted(int)                                       {}
func (noHistory) OwnFault(Stage, int, bool) bool                     { return false }
func (noHistory) Refused(int, email.Reply, Suspicion) Ruling         { return Ruling{Final: true} }
func (noHistory) ClosedAtRcpt(RcptClose) (time.Duration, CloseCause) { return relayWait, CauseUnknown }
