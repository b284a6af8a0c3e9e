package intake

import "github.com/postrider/postrider/email"

// Codes of a refusal's fields. They are part of the API.
const (
	// malformed_json: the body cannot be read.
	CodeMalformed = "malformed"
	CodeDuplicate = "duplicate"
	CodeNotUTF8   = "invalid_utf8"
	// CodeLoneSurrogate: an escape names half of a character (RFC 8259 section 8.2).
	CodeLoneSurrogate = "lone_surrogate"

	// invalid_request and too_large: it can be read, and not be sent.
	CodeUnknown        = "unknown"
	CodeWrongType      = "wrong_type"
	CodeMissing        = "missing"
	CodeNamedTwice     = "named_twice"
	CodeUnsupported    = "unsupported"
	CodeInvalid        = "invalid"
	CodeInvalidName    = "invalid_name"
	CodeInvalidAddress = "invalid_address"
	CodeInvalidBase64  = "invalid_base64"
	CodeControl        = "control_character"
	CodeReserved       = "reserved"
	CodeTooLong        = "too_long"
	CodeTooMany        = "too_many"
	CodeTooLarge       = "too_large"
	CodeTooLate        = "too_late"
	CodePast           = "past"
	CodeNoRelay        = "no_relay"
	CodeBeforeSendAt   = "before_send_at"
	CodeBlocked        = string(email.CodeBlocked)
)
