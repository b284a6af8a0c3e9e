// Package senderdomain has the rules by which a sender domain is verified: what a domain
// may be called, which DNS records it needs, what is wrong with those it has, and when to
// look again.
//
//   - [Parse] reads a domain as a person typed it.
//   - [Records] lists the records that the domain needs.
//   - [Check] compares them with the DNS. It tells the mistakes apart that people make, and
//     says for each what to do.
//   - [ResultOf] sums up one check, and [State.Next] decides over time.
//   - [DomainRecords] and [NextKeys] take a domain's DKIM keys through their life: from pending to
//     active, retiring and revoked.
package senderdomain
