package pg

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/email"
	"github.com/postrider/postrider/internal/plaintext"
)

// OrNull is a time as a parameter of a statement: NULL for the zero time.
func OrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// NewID makes a version 7 UUID, which sorts by time: that keeps indexes compact.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// CleanText makes a server's text storable, at most email.MaxReplyText bytes of it.
func CleanText(s string) string { return plaintext.Storable(s, email.MaxReplyText) }

// UTC is t in UTC; the zero time stays zero.
func UTC(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// Wrap says what an error came of; nil stays nil.
func Wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
