package intake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/email"
)

// maxFields bounds the problems of one refusal; a client that has more mends
// these first.
const maxFields = 100

// Checks collects everything that is wrong with a request.
type Checks struct {
	limits Limits
	fields []email.FieldError
}

// NewChecks makes an empty collection for a request within limits, whose zeros it takes as they
// are; see Limits.WithDefaults.
func NewChecks(l Limits) *Checks { return &Checks{limits: l} }

// Refuse adds a problem. Past 100 problems it adds none.
func (c *Checks) Refuse(pointer, code, format string, args ...any) {
	if len(c.fields) < maxFields {
		c.fields = append(c.fields, email.FieldError{Pointer: clip(pointer), Code: code, Detail: fmt.Sprintf(format, args...)})
	}
}

// Passed reports that no problem was found so far.
func (c *Checks) Passed() bool { return len(c.fields) == 0 }

// Err is what was found wrong: nil, or an *email.Failure with code invalid_request.
func (c *Checks) Err() error {
	if c.Passed() {
		return nil
	}
	f := email.Fail(email.CodeInvalidRequest, refusedDetail)
	f.Fields = c.fields
	return f
}

// Adopt adds the problems of a part, whose pointers begin at pointer.
func (c *Checks) Adopt(err error, pointer string) {
	for _, f := range Under(err, pointer).Fields {
		c.Refuse(f.Pointer, f.Code, "%s", f.Detail)
	}
}

// Under moves the problems of a part to where the part is in the request. An error that is no
// *email.Failure becomes the cause of one.
func Under(err error, pointer string) *email.Failure {
	f, ok := err.(*email.Failure) //nolint:errorlint // ours, as it was made
	if !ok {
		f = email.Fail(email.CodeInvalidRequest, refusedDetail)
		f.Err = err
	}
	moved := *f
	moved.Fields = slices.Clone(f.Fields)
	for i := range moved.Fields {
		moved.Fields[i].Pointer = pointer + moved.Fields[i].Pointer
	}
	return &moved
}

// Recipient checks an address in the form {"email", "name"}; nil is absent.
func (c *Checks) Recipient(pointer string, addr, name *string) email.Address {
	return c.address(pointer, address{Email: addr, Name: name})
}

// Value checks a text that a client names, of metadata or of a variable, and reports whether it
// is good: it has no NUL, and at most limit bytes. Nil is a value of another type.
func (c *Checks) Value(pointer string, value *string, limit int) bool {
	switch {
	case value == nil:
		c.Refuse(pointer, CodeWrongType, "the value has the wrong type; give a string")
	case strings.ContainsRune(*value, 0):
		c.Refuse(pointer, CodeControl, "remove the NUL characters")
	case len(*value) > limit:
		c.Refuse(pointer, CodeTooLong, "the value has %d bytes, the limit is %d", len(*value), limit)
	default:
		return true
	}
	return false
}

// OneOf reads one of a few words; the first is the default.
func OneOf[S ~string](c *Checks, pointer string, s *string, words ...S) S {
	if s == nil {
		return words[0]
	}
	list := make([]string, len(words))
	for i, w := range words {
		if *s == string(w) {
			return w
		}
		list[i] = string(w)
	}
	c.Refuse(pointer, CodeInvalid, "give %s", strings.Join(list, " or "))
	return words[0]
}

// Member appends a name to a JSON Pointer (RFC 6901 section 3).
func Member(pointer, name string) string {
	return pointer + "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
