package intake

import (
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/email"
)

// maxFields bounds the problems of one refusal.
const maxFields = 100

// Checks collects the problems of a request.
type Checks struct {
	limits Limits
	fields []email.FieldError
}

// NewChecks makes an empty collection. It does not apply the defaults of l; see
// Limits.WithDefaults.
func NewChecks(l Limits) *Checks { return &Checks{limits: l} }

// Refuse adds a problem. Past 100 problems it adds none.
func (c *Checks) Refuse(pointer, code, format string, args ...any) {
	if len(c.fields) < maxFields {
		c.fields = append(c.fields, email.FieldError{Pointer: clip(pointer), Code: code, Detail: fmt.Sprintf(format, args...)})
	}
}

// Passed reports whether no problem was found so far.
func (c *Checks) Passed() bool { return len(c.fields) == 0 }

// Err is nil if no problem was found, or an *email.Failure with code invalid_request.
func (c *Checks) Err() error {
	if c.Passed() {
		return nil
	}
	f := email.Fail(email.CodeInvalidRequest, refusedDetail)
	f.Fields = c.fields
	return f
}

// Adopt adds the problems of a part of the request that is at pointer.
func (c *Checks) Adopt(err error, pointer string) {
	for _, f := range Under(err, pointer).Fields {
		c.Refuse(f.Pointer, f.Code, "%s", f.Detail)
	}
}

// Under puts pointer before the pointers of a part's problems. An error that is not an
// *email.Failure becomes the cause of one.
func Under(err error, pointer string) *email.Failure {
	f, ok := err.(*email.Failure) //nolint:errorlint // Decode returns it unwrapped
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

// Recipient checks an address of the shape {"email", "name"}; nil is an absent member.
func (c *Checks) Recipient(pointer string, addr, name *string) email.Address {
	return c.address(pointer, address{Email: addr, Name: name})
}

// Value checks the value of a metadata member or a variable, and reports whether it is valid:
// it has no NUL, and at most limit bytes. Nil stands for a value of another JSON type.
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

// OneOf reads a member that has one of a few values; the first value is the default.
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
