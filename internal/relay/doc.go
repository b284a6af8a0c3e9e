// Package relay chooses the server that mail goes to, keeps the connections to it, and
// remembers how it behaves. Package smtp speaks to it.
//
//  1. A Relay is an smtp.Server and the mail that goes there, read from a URL (relay.go).
//     Relays picks one for a route, in order (relays.go, fitting.go).
//  2. A pool has the sessions of one relay (pool.go). A Session runs transactions and notes
//     their results (session.go, history.go). A relay with a rate gives turns (rate.go).
//  3. What the results say about the relay is kept in three places: the breaker passes over a
//     relay that does not take mail (breaker.go), the guard tells refusals of recipients from
//     refusals of us (guard.go), and rcptLimit knows how many recipients it takes
//     (rcptlimit.go). The board shares faults among processes (board.go).
//  4. Run probes relays without mail (probe.go).
//
// What a reply does to recipients, relay and socket is the table in package smtp.
package relay
