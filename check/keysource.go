package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"extauthz/keystore"
)

// A KeySource is one place where a request may carry the secret: [Header], [Scheme], [Query] or
// [Cookie], or one of them [WithPrefix]. It is safe for concurrent use.
type KeySource interface {
	// String describes the source, such as "header authorization, scheme bearer". Two sources
	// with the same description find the same.
	fmt.Stringer

	// Validate returns an error that describes what is wrong with the source's parameters and what
	// to write instead, without repeating them.
	Validate() error

	// find returns the secret, or "" if it is absent. The values of a repeated secret are joined by
	// commas, so that they match no key.
	find(a *Attributes) string

	// strip removes the secret from the request that goes upstream.
	strip(a *Attributes, o *Outcome)

	// place names what strip removes, such as "header authorization". Sources may share a place.
	place() string

	// scheme is the authentication scheme under which www-authenticate names the source.
	scheme() string
}

// defaultScheme is the scheme of a secret that is sent without one.
const defaultScheme = "ApiKey"

// DefaultKeySources returns the sources that are used if none are configured: the header x-api-key.
func DefaultKeySources() []KeySource { return []KeySource{Header("x-api-key")} }

// WithPrefix restricts a source to secrets that begin with the prefix, such as sk_. Any other
// value counts as absent, and goes upstream unchanged. So does a header that the proxy does not
// show. If any of several values has the prefix, they count as a repeated secret, which matches no
// key.
func WithPrefix(source KeySource, prefix string) KeySource { return prefixed{source, prefix} }

type prefixed struct {
	KeySource
	prefix string
}

func (p prefixed) String() string { return p.KeySource.String() + ", prefix " + p.prefix }

func (p prefixed) Validate() error {
	if p.prefix == "" || len(p.prefix) >= keystore.MaxSecretLen || slices.ContainsFunc([]byte(p.prefix), func(c byte) bool { return c <= ' ' || c > '~' || c == ',' }) {
		return errors.New("not the prefix of a secret: write printable ASCII without commas and spaces, such as sk_")
	}
	return p.KeySource.Validate()
}

func (p prefixed) find(a *Attributes) string {
	value := p.KeySource.find(a)
	if strings.HasPrefix(value, p.prefix) {
		return value
	}
	if !strings.Contains(value, ",") {
		return ""
	}
	// In a list, the secret may follow a scheme, or the name of a cookie.
	for word := range strings.FieldsFuncSeq(value, func(c rune) bool { return strings.ContainsRune(", \t=;\"", c) }) {
		if strings.HasPrefix(word, p.prefix) {
			return value
		}
	}
	return ""
}

func (p prefixed) strip(a *Attributes, o *Outcome) {
	if p.find(a) != "" {
		p.KeySource.strip(a, o)
	}
}

// A repeatable collects the values of a source: a single one unchanged, several joined by commas.
type repeatable struct {
	first  string
	times  int
	joined strings.Builder // from the second on
}

func (r *repeatable) add(value string) {
	switch r.times++; r.times {
	case 1:
		r.first = value
		return
	case 2:
		r.joined.WriteString(r.first)
	}
	r.joined.WriteByte(',')
	r.joined.WriteString(value)
}

func (r *repeatable) value() string {
	if r.times > 1 {
		return r.joined.String()
	}
	return r.first
}

// ReadsSameHeader reports whether both sources read the same header, which cannot hold a secret
// and an address.
func ReadsSameHeader(k KeySource, a AddressSource) bool {
	return a.header() != "" && k.place() == headerSource{a.header()}.place()
}

// validateSources returns every error in the sources, joined.
func validateSources(sources []KeySource, address AddressSource) error {
	var errs []error
	for i, s := range sources {
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("key_sources: entry %d (%q): %w", i+1, s.String(), fmt.Errorf(format, args...)))
		}
		if s == nil {
			errs = append(errs, fmt.Errorf("key_sources: entry %d is nil: write one such as Header(\"x-api-key\")", i+1))
			continue
		}
		if err := s.Validate(); err != nil {
			wrong("%w", err)
		}
		if j := slices.IndexFunc(sources[:i], func(t KeySource) bool { return t != nil && t.String() == s.String() }); j >= 0 {
			wrong("the same as entry %d: omit one", j+1)
		}
		if ReadsSameHeader(s, address) {
			wrong("client_address reads this header: a header holds a secret or an address, not both")
		}
	}
	return errors.Join(errs...)
}

// secret returns the secret of the first source that is present, and the source's index, or -1.
func (c *Checker) secret(a *Attributes) (string, int) {
	for i, s := range c.sources {
		if secret := s.find(a); secret != "" {
			return secret, i
		}
	}
	return "", -1
}

// strip removes every secret from the request that goes upstream: the one that was used, unless
// ForwardKey is set, and the others, which were not checked.
func (c *Checker) strip(a *Attributes, o *Outcome, used int) {
	if !c.forwardKey {
		used = -1
	}
	for i, s := range c.sources {
		if used >= 0 && (i == used || s.place() == c.sources[used].place()) {
			continue
		}
		s.strip(a, o)
	}
}

// challenge returns the value of www-authenticate (RFC 9110 section 11.6.1) that names each
// way in which a secret may be sent.
func challenge(sources []KeySource) string {
	var schemes []string
	for _, s := range sources {
		if !slices.ContainsFunc(schemes, func(known string) bool { return strings.EqualFold(known, s.scheme()) }) {
			schemes = append(schemes, s.scheme())
		}
	}
	return strings.Join(schemes, ` realm="extauthz", `) + ` realm="extauthz"`
}
