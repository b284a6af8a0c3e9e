// Package smtp takes a rendered message to a relay.
//
//  1. A Relay is where mail goes (relay.go). Relays picks one for a route, in
//     order (relays.go), and passes over those that do not answer (breaker.go).
//  2. A Session is one connection to it: TCP, greeting, EHLO (hello.go), STARTTLS
//     (starttls.go), AUTH (auth.go), in the order of dial.go. The AUTH mechanisms are
//     go-mail's. The conversation is ours: go-mail reads replies of any length, takes
//     keywords in upper case only and a reply's last line only with a text. Sessions
//     are kept and used again (pool.go).
//  3. Send runs one transaction (exchange.go): MAIL, RCPT for each recipient,
//     DATA to those accepted. go-mail's own Send gives up on a message when one
//     RCPT is refused, and hides who said what; its data writer ends a message
//     that broke off in the middle with a dot, at the next command. So the
//     commands are ours, over the connection's textproto, and the dot is a
//     command like any other.
//  4. classify judges every refusal, in one table.
//
// The message is rendered before MAIL FROM. Its last line, the dot that hands it
// over, is written only after the caller has noted that it will be; after any
// error past 354 the socket is closed hard, so that a server never takes half a
// message for a whole one.
package smtp
