package email

import "regexp"

// MaxDirectMessageBytes bounds the message of a direct start. Temporal refuses
// payloads of 2 MiB, and every one of them stays in a history.
const MaxDirectMessageBytes = 1 << 20

// idempotencyKeyShape is 1 to 256 printable ASCII characters, no space at either end.
var idempotencyKeyShape = regexp.MustCompile(`^[!-~]([ -~]{0,254}[!-~])?$`)

// ValidIdempotencyKey reports whether a client may name a request so.
func ValidIdempotencyKey(key string) bool { return idempotencyKeyShape.MatchString(key) }
