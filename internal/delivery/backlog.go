package delivery

import (
	"time"

	"github.com/postrider/postrider/email"
)

// Backlog is what waits in an installation.
type Backlog struct {
	// Open counts the e-mails that are not finished.
	Open []OpenEmails
	// OldestOpen is the age of the oldest of them that is neither scheduled nor held.
	OldestOpen time.Duration
	// Overdue is how late the most overdue e-mail is.
	Overdue time.Duration
	// Starts are accepted e-mails whose run has not begun.
	Starts int
	// Webhooks are the deliveries that are not done.
	Webhooks int
	// Circuits are the customers' recipients' domains where no outcome of an attempt suppresses.
	Circuits int
}

// OpenEmails are those of one status and detail.
type OpenEmails struct {
	Status email.Status
	Detail email.Detail
	Emails int
}
