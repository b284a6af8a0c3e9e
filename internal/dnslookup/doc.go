// Package dnslookup asks the DNS what a domain publishes at this time.
//
// A recursive server remembers for up to an hour that a record does not exist (RFC
// 2308). A customer who adds a record and looks at once would not find it. A lookup
// therefore takes these steps:
//
//  1. It finds the zone of the name. For this it asks the recursive server for the NS
//     records of the name, of its parent, and so on up to the top-level domain.
//  2. It asks the zone's name servers, one after the other, until one answers
//     authoritatively. If that server delegates the name, it asks those servers.
//  3. If no authoritative server answers, it asks the recursive server.
//  4. It follows CNAMEs, at most eight, and takes the steps above for each.
//
// An [Answer] tells a definite no from a failure. [NoSuchName] and [NoSuchRecord] are
// definite: a server that knows the zone says so. SERVFAIL, REFUSED, time-outs, malformed
// answers and servers that do not know their zone are a [TemporaryFailure]. It says
// nothing of the record.
//
// The names of a customer's name servers come from the customer, and so do their
// addresses. The client sends nothing to private or loopback addresses, except in
// networks that its options allow.
package dnslookup
