// Package delivery holds the types that the parts of the server use among themselves to
// deliver an e-mail. Package email has what other programs may use too.
//
//   - The gate (package db) and its callers: OpenRequest and Opening before an attempt, Mark
//     before the end of the data, Ending and Recorded after it. The same for a batch's e-mails.
//   - The relays (package internal/smtp) and their callers: Route, Envelope, Exchange with an
//     Outcome for each recipient, RelayError, Throttled.
//   - Workflows and activities: the activities' inputs and results. They stand in histories, so
//     their JSON is as fixed as that of package email: fields are added, never renamed.
//   - The rules of an e-mail's life: which state follows which (CanMove), the e-mail's status
//     from its recipients' (Derive), when the next attempt is due (Schedule).
//
// It imports the standard library and package email.
package delivery
