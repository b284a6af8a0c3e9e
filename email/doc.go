// Package email is the domain of Postrider and the contract it publishes: what
// a message is, which states an e-mail and each of its recipients can be in,
// how a recipient may move between them, and the names and payloads that an
// outside Temporal client needs to start and steer a SendEmail workflow.
//
//  1. A Message is what a client asks for. It is decoded and checked by intake
//     and stored; from then on it never changes.
//  2. An Email is a stored message with its life so far. Each recipient has a
//     RecipientStatus of its own; the e-mail's Status is derived from them.
//  3. An Attempt is one SMTP transaction (or several parts of one) with a
//     relay.
//  4. Every change leaves an Event with a sequence number, in the same
//     transaction as the change.
//
// The package imports the standard library only, so that a program which
// starts our workflow from its own does not inherit Gin, bun or go-mail. What
// only the server's own parts need is in internal/delivery.
package email
