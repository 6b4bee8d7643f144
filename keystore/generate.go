package keystore

import (
	"crypto/rand"
	"errors"
	"regexp"
	"time"

	"github.com/mr-tron/base58"
)

const (
	secretBytes = 20 // 160 bits
	idBytes     = 8
)

var secretPrefix = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$`)

// ValidateSecretPrefix checks the prefix of a new secret.
func ValidateSecretPrefix(prefix string) error {
	if !secretPrefix.MatchString(prefix) {
		return errors.New("not 1 to 32 letters, digits, - or _, with a letter or a digit first")
	}
	return nil
}

// NewSecret returns a new secret of 160 random bits in base58, after the prefix and a _.
func NewSecret(prefix string) Secret { return Secret(prefix + "_" + randomText(secretBytes)) }

// NewID returns a new id for a key: key_ and random characters.
func NewID() string { return "key_" + randomText(idBytes) }

// randomText returns n random bytes in base58, whose characters are hard to mistake.
func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program rather than return an error
	return base58.Encode(b)
}

// Rotate replaces the key's secret. The old one works until the given time; the zero Time ends it at
// once. A previous secret from an earlier rotation stops working.
func (k *Key) Rotate(secret Hash, until time.Time) {
	if until.IsZero() {
		k.Previous = PreviousSecret{}
	} else {
		k.Previous = PreviousSecret{Hash: k.Hash, Until: until}
	}
	k.Hash = secret
}
