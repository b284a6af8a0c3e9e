// Package relay chooses the server that mail goes to, keeps the connections to it, and
// remembers how it behaves. Package smtp speaks to it.
//
//  1. A Relay is an smtp.Server and the mail that goes there, read from a URL (relay.go).
//     Relays picks one for a route, in order (relays.go, fitting.go).
//  2. A pool has the sessions of one relay (pool.go). It makes connections, and hands them from
//     one caller to the next (connections.go). A Session runs transactions and notes
//     their results (session.go, history.go). A relay with a rate gives turns (rate.go).
//  3. Three places keep what the results show about the relay. The breaker passes over a relay
//     that does not take mail (breaker.go). The guard separates refusals of recipients from
//     refusals of us (guard.go). rcptLimit remembers how many recipients the relay takes
//     (rcptlimit.go). The board shares faults among processes (board.go).
//  4. Run probes relays without mail (probe.go).
//
// The table in package smtp says what a reply does to recipients, relay and socket.
package relay
