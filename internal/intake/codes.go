package intake

import "github.com/postrider/postrider/email"

// Codes of a refusal's fields. They are part of the API.
const (
	// malformed_json: the body cannot be read.
	codeMalformed = "malformed"
	codeDuplicate = "duplicate"
	codeNotUTF8   = "invalid_utf8"
	// codeLoneSurrogate: an escape names half of a character (RFC 8259 section 8.2).
	codeLoneSurrogate = "lone_surrogate"

	// invalid_request and too_large: it can be read, and not be sent.
	codeUnknown        = "unknown"
	codeWrongType      = "wrong_type"
	codeMissing        = "missing"
	codeNamedTwice     = "named_twice"
	codeUnsupported    = "unsupported"
	codeInvalid        = "invalid"
	codeInvalidName    = "invalid_name"
	codeInvalidAddress = "invalid_address"
	codeInvalidBase64  = "invalid_base64"
	codeControl        = "control_character"
	codeReserved       = "reserved"
	codeTooLong        = "too_long"
	codeTooMany        = "too_many"
	codeTooLarge       = "too_large"
	codeTooLate        = "too_late"
	codePast           = "past"
	codeNoRelay        = "no_relay"
	codeBeforeSendAt   = "before_send_at"
	codeBlocked        = string(email.CodeBlocked)
)
