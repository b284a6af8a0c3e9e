// Package intake decodes, normalises and checks one message, over REST or from a direct
// start of the workflow. internal/mailmerge makes many messages of one request with it.
//
//  1. decode.go reads the JSON strictly: unknown and repeated members, wrong
//     types and invalid UTF-8 are refused with a pointer to the place. It stops
//     at the first such fault, because what follows can no longer be trusted.
//  2. normalize.go brings the seed API's two shapes together, group by group:
//     sender, recipients, content, attachments. The groups are independent, so
//     from goes with destinations; naming one thing twice is refused.
//  3. The checks collect everything that is wrong, so that a client mends its
//     request once. They never repeat a value.
//
// Every refusal is an *email.Failure with code malformed_json, invalid_request or
// too_large; codes.go lists the codes of its fields. Checks collects the problems, for
// other packages that read requests, too.
package intake
