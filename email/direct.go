package email

import "regexp"

// MaxDirectMessageBytes bounds the message of a direct start. Temporal refuses payloads of
// 2 MiB, and the history keeps every payload.
const MaxDirectMessageBytes = 1 << 20

// idempotencyKeyShape matches the keys of ValidIdempotencyKey.
var idempotencyKeyShape = regexp.MustCompile(`^[!-~]([ -~]{0,254}[!-~])?$`)

// ValidIdempotencyKey reports whether key is allowed: 1 to 256 printable ASCII characters
// without a space at either end.
func ValidIdempotencyKey(key string) bool { return idempotencyKeyShape.MatchString(key) }
