package pg

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
)

// sealer keeps secrets in the database unreadable without its key: AES-256-GCM,
// nonce first, bound to the row they belong to.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (*sealer, error) {
	if len(key) != 32 {
		return nil, fmt.Errorf("%d bytes, need 32", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead}, nil
}

// sealFor seals plain for the row named by owner: moved to another row it does not open.
func (s *sealer) sealFor(owner string, plain []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce) // crypto/rand.Read never fails
	return s.aead.Seal(nonce, nonce, plain, []byte(owner))
}

// opens reports whether the key is the one that sealed.
func (s *sealer) opens(owner string, sealed []byte) (plain []byte, ok bool) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, false
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(owner))
	return plain, err == nil
}

// Keyring are the keys of a process: POSTRIDER_SECRET_KEY first, then, while it is
// being replaced, POSTRIDER_SECRET_KEY_OLD.
type Keyring []*sealer

// NewKeyring makes keys of the settings POSTRIDER_SECRET_KEY and POSTRIDER_SECRET_KEY_OLD, each
// of 32 bytes. old may be empty. An error names the setting.
func NewKeyring(key, old []byte) (Keyring, error) {
	first, err := newSealer(key)
	if err != nil {
		return nil, fmt.Errorf("POSTRIDER_SECRET_KEY: %w", err)
	}
	if len(old) == 0 {
		return Keyring{first}, nil
	}
	second, err := newSealer(old)
	if err != nil {
		return nil, fmt.Errorf("POSTRIDER_SECRET_KEY_OLD: %w", err)
	}
	return Keyring{first, second}, nil
}

// noKey is the index of a key that the process does not have.
const noKey = -1

// by is the index of the key that opens what was sealed, noKey if none does.
func (k Keyring) by(owner string, sealed []byte) (plain []byte, index int) {
	for i, s := range k {
		if plain, ok := s.opens(owner, sealed); ok {
			return plain, i
		}
	}
	return nil, noKey
}

func (k Keyring) openFor(owner string, sealed []byte) ([]byte, error) {
	plain, index := k.by(owner, sealed)
	if index == noKey {
		return nil, errors.New("a stored secret does not open: is POSTRIDER_SECRET_KEY the one it was sealed with?")
	}
	return plain, nil
}
