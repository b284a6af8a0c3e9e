package email

import "time"

// File is content that a customer uploaded ahead of the e-mails that refer to it.
type File struct {
	ID         string
	CustomerID string
	// Filename is safe to put into a header: no path, no control characters.
	Filename string
	// Type is a media type (RFC 2046).
	Type string
	// Size in bytes, SHA256 in hex.
	Size      int64
	SHA256    string
	CreatedAt time.Time
}
