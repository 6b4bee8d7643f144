// Package keystore defines API keys, and the interfaces that every store of keys implements. The
// stores are in the packages below it.
package keystore

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Key is the record of one API key. Once a store has returned it, it is immutable, so that any
// number of goroutines may read it. The zero value is a key that refuses: it is disabled, and its
// whitelist is empty.
type Key struct {
	ID         string    // logged and shown, such as key_acme_prod
	Name       string    // for humans; may be empty
	Hash       Hash      // of the secret
	Whitelist  Whitelist // the addresses from which the key may be used
	Enabled    bool
	Expires    time.Time // the last moment at which the key may be used; zero: never expires
	ExternalID string    // the owner in the operator's own terms; may be empty

	// WhitelistMode is how a request from an address outside of Whitelist is handled.
	WhitelistMode WhitelistMode

	// Previous is the secret that the last rotation replaced, while it still works.
	Previous PreviousSecret

	Permissions []string    // what the key may do, in addition to its roles
	Roles       []string    // names of lists of permissions
	Ratelimits  []Ratelimit // none: not limited

	Meta json.RawMessage // the operator's own data, as JSON; never sent to a caller

	// Broken is the reason why the store could not read the record completely; nil if it could.
	// A broken key is refused as FORBIDDEN, never treated as unrestricted.
	Broken error
}

// A WhitelistMode is how a request from an address outside of a key's whitelist is handled. The zero
// value refuses it.
type WhitelistMode uint8

const (
	// Enforce refuses it.
	Enforce WhitelistMode = iota
	// Report lets it through, and reports that it would have been refused.
	Report
)

// String returns the mode as it is written in a record.
func (m WhitelistMode) String() string {
	if m == Report {
		return "report"
	}
	return "enforce"
}

// ParseWhitelistMode parses what [WhitelistMode.String] returns. Its error says what to write.
func ParseWhitelistMode(s string) (WhitelistMode, error) {
	switch s {
	case "enforce":
		return Enforce, nil
	case "report":
		return Report, nil
	}
	return Enforce, fmt.Errorf("%q is not a mode: write enforce, or report to let requests through and report what would have been refused", s)
}

// Hashes returns the hash of the key's secret and, if it has one, that of the previous secret.
func (k *Key) Hashes() []Hash {
	if k.Previous.Hash == (Hash{}) {
		return []Hash{k.Hash}
	}
	return []Hash{k.Hash, k.Previous.Hash}
}

// A PreviousSecret is one that a rotation replaced. The zero value is none.
type PreviousSecret struct {
	Hash  Hash
	Until time.Time // the last moment at which it works
}

// WorksAt reports whether h is the hash of the previous secret, and it still works at now.
func (p PreviousSecret) WorksAt(h Hash, now time.Time) bool {
	return p.Hash != Hash{} && p.Hash == h && !now.After(p.Until)
}

// A Ratelimit bounds how often a key may be used.
type Ratelimit struct {
	Name     string
	Limit    int64         // the cost that is allowed …
	Duration time.Duration // … in any period of this length
	OnDemand bool          // applies only to routes that name it (auto_apply: false)
}

// ExpiredAt reports whether now is after the moment at which the key expires.
func (k *Key) ExpiredAt(now time.Time) bool {
	return !k.Expires.IsZero() && now.After(k.Expires)
}

// Clone returns a deep copy.
func (k *Key) Clone() *Key {
	c := *k
	c.Permissions = slices.Clone(k.Permissions)
	c.Roles = slices.Clone(k.Roles)
	c.Ratelimits = slices.Clone(k.Ratelimits)
	c.Meta = slices.Clone(k.Meta)
	return &c
}

// Break makes the key refuse, because its record cannot be read completely. A key without a valid id
// is named after its hash. Stores call it before they return the key.
func (k *Key) Break(err error) {
	if ValidateID(k.ID) != nil {
		k.ID = "sha256:" + k.Hash.String()[:16]
	}
	k.Whitelist, k.Broken = Whitelist{}, err
}

// Validate reports all that is invalid, as errors joined by [errors.Join], one for each field. Stores
// call it before they write a key.
func (k *Key) Validate() error {
	var errs []error
	add := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	add("id", ValidateID(k.ID))
	add("name", ValidateName(k.Name))
	if k.Hash == (Hash{}) {
		add("hash", errors.New("missing: write the SHA-256 of the secret"))
	}
	add("previous", k.validatePrevious())
	if k.Whitelist.Restricted() && len(k.Whitelist.Prefixes()) == 0 {
		add("ip_whitelist", ErrEmptyWhitelist)
	}
	add("external_id", ValidateExternalID(k.ExternalID))
	for _, p := range k.Permissions {
		add("permissions", ValidatePermission(p))
	}
	for _, r := range k.Roles {
		add("roles", ValidatePermission(r))
	}
	add("ratelimits", ValidateRatelimits(k.Ratelimits))
	if len(k.Meta) > 0 && !json.Valid(k.Meta) {
		add("meta", errors.New("not JSON"))
	}
	return errors.Join(errs...)
}

var errNoPreviousHash = errors.New("hash: missing: write the SHA-256 of the secret before the rotation, or omit previous")

func (k *Key) validatePrevious() error {
	switch p := k.Previous; {
	case p == PreviousSecret{}:
		return nil
	case p.Hash == Hash{}:
		return errNoPreviousHash
	case p.Hash == k.Hash:
		return errors.New("hash: the same as the key's own: omit previous")
	case p.Until.IsZero():
		return errors.New("until: missing: write the last moment at which the secret works, such as 2027-01-31T00:00:00Z")
	}
	return nil
}

// ErrEmptyWhitelist is the error for an empty whitelist, which is ambiguous.
var ErrEmptyWhitelist = errors.New("the list is empty, which says neither \"anyone\" nor \"no one\": omit the field to allow every address, or write enabled: false to allow none")

// ValidateID checks a key's id: 1 to 128 letters, digits and . _ - : characters.
func ValidateID(id string) error {
	switch {
	case id == "":
		return errors.New("missing: write an id such as key_acme_prod")
	case len(id) > 128:
		return fmt.Errorf("%d characters long: write at most 128", len(id))
	case strings.IndexFunc(id, func(r rune) bool { return !isNameRune(r) }) >= 0:
		return fmt.Errorf("%q has a character other than letters, digits and . _ - : in it", id)
	}
	return nil
}

// ValidateName checks a key's name: at most 256 bytes of UTF-8, without characters that move or hide
// other text on a terminal.
func ValidateName(name string) error {
	switch {
	case len(name) > 256:
		return fmt.Errorf("%d bytes long: write at most 256", len(name))
	case !utf8.ValidString(name):
		return fmt.Errorf("%q is not UTF-8", name)
	case strings.IndexFunc(name, isControl) >= 0:
		return fmt.Errorf("%q has a control character in it", name)
	}
	return nil
}

func isControl(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)
}

// ValidateExternalID checks an external id, which is sent as a header's value: at most 256
// printable ASCII characters (RFC 9110 section 5.5), no space at either end.
func ValidateExternalID(id string) error {
	switch {
	case len(id) > 256:
		return fmt.Errorf("%d characters long: write at most 256", len(id))
	case strings.IndexFunc(id, func(r rune) bool { return r < ' ' || r > '~' }) >= 0:
		return fmt.Errorf("%q has a character that no header can carry: write printable ASCII", id)
	case strings.TrimSpace(id) != id:
		return fmt.Errorf("%q has spaces around it: write %q", id, strings.TrimSpace(id))
	}
	return nil
}

// ValidatePermission checks the name of a permission or a role: 1 to 256 letters, digits and
// . _ - : * / characters.
func ValidatePermission(p string) error {
	switch {
	case p == "":
		return errors.New("an empty name: write one such as documents.read")
	case len(p) > 256:
		return fmt.Errorf("%d characters long: write at most 256", len(p))
	case strings.IndexFunc(p, func(r rune) bool { return !isNameRune(r) && r != '*' && r != '/' }) >= 0:
		return fmt.Errorf("%q has a character other than letters, digits and . _ - : * / in it", p)
	}
	return nil
}

// ValidateRatelimits checks a key's rate limits: distinct names, limits of at least 1, durations from
// 1 s to 366 days.
func ValidateRatelimits(limits []Ratelimit) error {
	var errs []error
	for i, l := range limits {
		errs = append(errs, l.Validate(limits[:i]))
	}
	return errors.Join(errs...)
}

// Validate checks a rate limit of a key that has others. Its error has a line for each field that is
// wrong, which begins with the field's name and a colon.
func (l Ratelimit) Validate(others []Ratelimit) error {
	var errs []error
	if err := ValidateID(l.Name); err != nil {
		errs = append(errs, fmt.Errorf("name: %w", err))
	} else if slices.ContainsFunc(others, func(o Ratelimit) bool { return o.Name == l.Name }) {
		errs = append(errs, fmt.Errorf("name: %q appears twice: give each limit its own name", l.Name))
	}
	if l.Limit < 1 {
		errs = append(errs, fmt.Errorf("limit: %d: write at least 1", l.Limit))
	}
	if l.Duration < time.Second || l.Duration > 366*24*time.Hour {
		errs = append(errs, fmt.Errorf("duration: %s: write one from 1s to 8784h", l.Duration))
	}
	return errors.Join(errs...)
}

func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		r == '.' || r == '_' || r == '-' || r == ':'
}
