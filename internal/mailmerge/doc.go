// Package mailmerge makes many messages from one request.
//
//  1. batch.go reads the request: a list of messages, or one message and a list of recipients.
//     It checks the request as a whole, and the size of all copies.
//  2. template.go is the message for many recipients, with {{name}} in its subject, text, HTML,
//     headers and metadata. It computes the size of a copy before it fills in the variables.
//  3. variables.go reads and checks a recipient's variables.
//
// Each message is read and checked by internal/intake, as a single one is.
package mailmerge
