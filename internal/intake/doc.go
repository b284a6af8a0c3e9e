// Package intake decodes, normalises and checks one message, over REST or from a direct
// start of the workflow. internal/mailmerge uses it to make many messages from one request.
//
//  1. decode.go decodes the JSON strictly: it refuses unknown and repeated members, wrong
//     types and invalid UTF-8 with a pointer to the place. It stops at the first such error.
//  2. normalize.go merges the two shapes of a request, Postrider's and that of VoIPBIN's
//     e-mail API, by groups: sender, recipients, content, attachments. The groups are
//     independent: from may be combined with destinations. Naming the same group in both
//     shapes is refused.
//  3. Checks collects all problems, so that a client can correct its request in one step.
//     They never repeat a value. Other packages that decode requests use it, too.
//
// Every refusal is an *email.Failure with code malformed_json, invalid_request or
// too_large; codes.go lists the codes of its field errors.
package intake
