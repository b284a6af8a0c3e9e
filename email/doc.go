// Package email is the domain of Postrider and its published contract. It defines messages, and
// the states of e-mails and recipients. It has the names and payloads with which a Temporal
// client starts and controls a SendEmail workflow.
//
//  1. A Message is what a client asks for. Package intake decodes and checks it. Once it is
//     stored, it never changes.
//  2. An Email is a stored message with its state. Each recipient has a RecipientStatus of its
//     own; the e-mail's Status is derived from them.
//  3. An Attempt is one SMTP transaction with a relay, or several parts of one.
//  4. Every change writes an Event with a sequence number, in the same transaction.
//
// The package imports the standard library and a UUID package only. A program that starts the
// workflow does not inherit the server's dependencies. Types that only the server needs are in
// internal/delivery.
package email
