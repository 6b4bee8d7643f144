package keystore

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// MaxSecretLen is the longest secret, in bytes, that can belong to a key.
const MaxSecretLen = 512

// A Secret is what a caller sends to prove that it holds a key. Stores hold only its [Hash].
// Printing, logging or encoding a Secret writes REDACTED. It is revealed by a conversion to string, and
// by what does not call its methods: fmt for an unexported field, and encoding/json for a key of a
// map. Keep it out of both. The zero value is no secret.
type Secret string

// Hash returns the SHA-256 of the whole secret.
func (s Secret) Hash() Hash {
	// A buffer on the stack avoids the allocation of the conversion, and a small one takes less
	// time to clear.
	switch n := len(s); {
	case n <= 128:
		var buf [128]byte
		return sha256.Sum256(buf[:copy(buf[:], s)])
	case n <= MaxSecretLen:
		var buf [MaxSecretLen]byte
		return sha256.Sum256(buf[:copy(buf[:], s)])
	}
	return sha256.Sum256([]byte(s))
}

const redacted = "REDACTED"

// String returns REDACTED.
func (Secret) String() string { return redacted }

// Format writes REDACTED for all verbs: for some, and in its own errors, fmt does not call String.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // fmt reports it

// MarshalText returns REDACTED, for encoding/json and similar packages.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns REDACTED.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// A Hash is the SHA-256 of a secret, which is all that a store holds of it. The zero value is the hash
// of no secret.
type Hash [sha256.Size]byte

// ParseHash reads a hash written as 64 hexadecimal digits, in either case, or as standard
// base64 with padding (44 characters).
func ParseHash(s string) (Hash, error) {
	h, err := parseHash(s)
	if err != nil && holdsHash(s) {
		return Hash{}, errors.New("hash has other text next to the SHA-256, such as the prefix sha256: or colons between its digits: omit that")
	}
	return h, err
}

// holdsHash reports whether there is a hash within s: after a prefix such as sha256: or 0x, before a
// file's name as sha256sum prints it, or with colons between its digits.
func holdsHash(s string) bool {
	parts := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(":-{}$*'\"\\ \t\r\n", r) })
	if _, after, ok := strings.Cut(s, "="); ok {
		parts = append(parts, after)
	}
	parts = append(parts, strings.TrimPrefix(strings.ToLower(s), "0x"), strings.Map(func(r rune) rune {
		if r == ':' || r == ' ' {
			return -1
		}
		return r
	}, s))
	return slices.ContainsFunc(parts, func(p string) bool { _, err := parseHash(p); return err == nil })
}

func parseHash(s string) (Hash, error) {
	var h Hash
	switch len(s) {
	case hex.EncodedLen(len(h)):
		b, err := hex.DecodeString(s)
		if err != nil {
			return Hash{}, fmt.Errorf("hash has 64 characters, but not all are hexadecimal digits: write the SHA-256 of the secret as `extauthz key hash` prints it")
		}
		copy(h[:], b)
	case base64.StdEncoding.EncodedLen(len(h)):
		b, err := base64.StdEncoding.Strict().DecodeString(s)
		if err != nil || len(b) != len(h) {
			return Hash{}, fmt.Errorf("hash has 44 characters, but is not standard base64 of 32 bytes: write the SHA-256 of the secret as `extauthz key hash` prints it")
		}
		copy(h[:], b)
	default:
		// The text is not repeated: it may be a secret, pasted by mistake.
		return Hash{}, fmt.Errorf("hash has %d characters: write the SHA-256 of the secret, as 64 hexadecimal digits or 44 characters of base64; `extauthz key hash` prints it", len(s))
	}
	if h == (Hash{}) {
		return Hash{}, fmt.Errorf("hash is all zeros, which is no secret's: write the SHA-256 of the secret as `extauthz key hash` prints it")
	}
	return h, nil
}

// String returns the hash as 64 lower-case hexadecimal digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }
