package accounts

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// Argon2id parameters as RFC 9106 section 4 recommends for memory-constrained
// environments: 64 MiB, 3 passes, 4 lanes.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB, unless Options.PasswordMemory says otherwise
	argonThreads = 4
	argonKeyLen  = 32
	argonSaltLen = 16
)

// passwords hashes with so much memory, in KiB.
type passwords struct {
	memory uint32
	// absent is verified against when a username does not exist, so that the answer takes
	// as long as for one that does.
	absent func() string
}

func newPasswords(memory int) passwords {
	p := passwords{memory: uint32(cmp.Or(memory, argonMemory))}
	p.absent = sync.OnceValue(func() string { return p.hash("") })
	return p
}

// hash makes a PHC string: the parameters travel with the hash, so that they may change.
func (p passwords) hash(password string) string {
	salt := make([]byte, argonSaltLen)
	rand.Read(salt) // crypto/rand.Read never fails
	key := argon2.IDKey([]byte(password), salt, argonTime, p.memory, argonThreads, argonKeyLen)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, argonTime, argonThreads,
		b64.EncodeToString(salt), b64.EncodeToString(key))
}

// verifyPassword reports whether a password belongs to a PHC string.
func verifyPassword(phc, password string) bool {
	var version, memory, passes, lanes int
	var rest string
	if _, err := fmt.Sscanf(phc, "$argon2id$v=%d$m=%d,t=%d,p=%d$%s", &version, &memory, &passes, &lanes, &rest); err != nil || version != argon2.Version {
		return false
	}
	saltText, keyText, _ := strings.Cut(rest, "$")
	salt, err := base64.RawStdEncoding.DecodeString(saltText)
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(keyText)
	if err != nil || len(want) == 0 {
		return false
	}
	got := argon2.IDKey([]byte(password), salt, uint32(passes), uint32(memory), uint8(lanes), uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1
}
