package intake

import "github.com/postrider/postrider/email"

// Codes of the field errors of a refusal. They are part of the API.
const (
	// With malformed_json: the body cannot be decoded.
	CodeMalformed = "malformed"
	CodeDuplicate = "duplicate"
	CodeNotUTF8   = "invalid_utf8"
	// CodeLoneSurrogate: an escape is half of a surrogate pair (RFC 8259 section 8.2).
	CodeLoneSurrogate = "lone_surrogate"

	// With invalid_request and too_large: the body is decoded, and the message is not valid.
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
