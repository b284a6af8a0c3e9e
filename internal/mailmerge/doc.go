// Package mailmerge makes many messages of one request.
//
//  1. batch.go reads the request: a list of messages, or one message and a list of recipients.
//     It refuses what is wrong with the request as a whole, and counts what all copies store.
//  2. template.go is the one message for many: {{name}} in its subject, text, HTML, headers and
//     metadata. It fills in the variables of one recipient at a time, and knows the size of a
//     copy before it makes it.
//  3. variables.go reads and checks a recipient's variables.
//
// Each message is read and checked by internal/intake, as a single one is.
package mailmerge
