// Package smtp speaks SMTP to one server. It knows nothing of other servers, nor of what a
// server did before: package relay chooses the server, keeps the connections, and remembers.
//
//  1. A Server is an address and how to sign in there (server.go). Dial opens a Session: TCP,
//     greeting, EHLO (hello.go), STARTTLS (starttls.go), AUTH (auth.go). The AUTH mechanisms
//     are go-mail's. The conversation is ours: go-mail reads replies of any length, takes
//     keywords in upper case only and a reply's last line only with a text.
//  2. Send runs one transaction (exchange.go): MAIL (prepare.go), RCPT for each recipient
//     (rcpt.go, closing.go), DATA for those accepted. Where the server offers PIPELINING, MAIL
//     and RCPT go in groups (pipelining.go). DATA always waits for the replies to all RCPT.
//     A transaction that ends before its final dot does so in ending.go.
//     The commands are ours, over the connection's textproto, and the dot is a command like
//     any other: go-mail's own Send gives up on a message when one RCPT is refused, and does
//     not say which. Its data writer ends a message that broke off with a dot.
//  3. classify judges every refusal, in one table (classify.go, phrases.go, postfix.go). Stage, Attribution
//     and RelayVerdict are the words for its judgements (verdict.go).
//  4. Result says what became of each recipient and what the transaction shows about the
//     server. The caller decides what follows from that. Where one reply can mean several
//     things, Send asks a History (history.go).
//
// The message is rendered before MAIL FROM. Its last line, the dot that hands it over, is
// written only after the caller has noted that it will be. After any error past 354 the
// socket is closed without QUIT, so that a server never takes half a message for a whole one.
//
// # Replies and what follows from them
//
// The table holds with PIPELINING and without. With it, recipients named in the same group may
// have been named although the event ends the naming. Those that the server accepts get the
// message. Every other reply to them is ignored, and they count as not named.
//
// A refusal of the sender is the relay's fault if the return-path is one of our own host (returnpath.go). At
// MAIL that is any refusal but one of the size. At RCPT and after it, it is also each reply that names the return-path.
// Where History says that the relay takes other mail, the e-mail waits uncounted all the same, and the verdict is None.
//
// Uncounted means that no recipient's tries or time until expiry suffer. The verdict is the
// RelayVerdict. "All" are the recipients without a reply of their own.
//
//	event                        recipients                               verdict          socket
//	ctx ends before the dot,     all: as before the attempt, 10 s         Ours             closed
//	or Mark fails
//
//	MAIL: about the sender       all: failed, or deferred at 4xx          None             RSET
//	MAIL: the relay's (4xx,      all: deferred, uncounted, a relay's      Down             RSET;
//	530, 503, 5xx that blames    fault                                                     421: closed
//	neither side)
//	the same, and History says   all: deferred or failed, counted         None             the same
//	that it takes other mail
//	MAIL: closed, or no reply    all: deferred, uncounted, a relay's      Down             closed; a rested
//	                             fault                                                     session is dialled
//	                                                                                       again first, once
//	MAIL: 501, 504, 555 about    none                                     None             MAIL again without
//	parameters                                                                             them
//
//	RCPT: 2xx                    accepted: it gets the message            None             goes on
//	RCPT: about the recipient    it: bounced or deferred                  None             goes on
//	the same, perhaps about us,  it: as History rules; held back it is    Refused; Down    RSET
//	and none was accepted        uncounted                                for a pattern
//	RCPT: too many (x.5.3)       it and those not named: deferred,        None             DATA
//	                             uncounted, 1 s
//	RCPT: our account's quota    it: deferred, uncounted, 30 min or more  Refused          goes on
//	                             for a day's or a month's
//	RCPT: another fault of the   it: deferred; uncounted unless others    Refused; Down    goes on
//	relay (4.3.x, relaying ...)  were accepted                            for 530, 535
//	RCPT: 421                    it: deferred. Those not named: deferred, Refused; None    DATA if others were
//	                             uncounted. Those accepted: the message   if DATA goes     accepted; then
//	                             if the connection lives, else deferred,  well             closed
//	                             uncounted
//	RCPT: 421 at the first of a  none                                     None             dialled again, once
//	connection used before
//	RCPT: 421 about our address  it: deferred, ip_blocked or               None             as for 421
//	or the sender's domain, by   unauthenticated. The others: as for 421
//	the recipient's own server
//	RCPT: 521                    it: bounced. The others: as for 421      as for 421       as for 421
//	MAIL in a group: closed, or  none                                     None             dialled again, once,
//	not a reply                                                                            without PIPELINING
//	RCPT in a group: closed, no  none                                     None             dialled again, once,
//	or not a reply, 500, 502,                                                              without PIPELINING
//	503
//	RCPT: 500, 502, 503          it: deferred. The others: deferred,      Refused          closed
//	                             uncounted, 10 s
//	RCPT: closed, or no reply    it and all: deferred, uncounted          Refused; Down    closed
//	                                                                      if it was silent
//	any: not a reply, or not     all: deferred, uncounted, 1 min          Refused          closed
//	one to this command
//
//	DATA, message: refused       those accepted: as classify says         None, or as for  RSET;
//	                                                                      RCPT             421: closed
//	DATA: 2xx                    all, with any reply to RCPT: deferred,   Refused          closed
//	                             uncounted
//	DATA, message: closed, or    all: deferred, uncounted, 1 min          Refused; Down    closed
//	no reply                                                              if it was silent
//
//	dot: 2xx                     those accepted: delivered                None             kept
//	dot: refused                 those accepted: as classify says         None, or as for  kept;
//	                                                                      RCPT             421: closed
//	dot: closed, no reply, or    those accepted: deferred, ambiguous      Refused; Down    closed
//	not one to it                                                         if it was silent
package smtp
