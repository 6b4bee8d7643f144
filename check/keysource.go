package check

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A KeySource is one place where a secret may stand: [Header], [Scheme], [Query] or [Cookie].
type KeySource interface {
	// String describes the source, such as "header authorization, scheme bearer". Two sources
	// with the same description find the same.
	fmt.Stringer

	// Validate reports what is wrong with how the source was made and what to write instead.
	Validate() error

	// find returns what stands in the source; empty where it is absent. What stands there more
	// than once comes joined by commas, so that it is nobody's secret.
	find(a *Attributes) string

	// strip takes what stands in the source out of the request that goes upstream.
	strip(a *Attributes, o *Outcome)

	// place names what strip removes, such as "header authorization". Sources may share one.
	place() string

	// scheme is the authentication scheme under which www-authenticate names the source.
	scheme() string
}

// validateSources returns every error in the sources, joined.
func validateSources(sources []KeySource) error {
	var errs []error
	for i, s := range sources {
		if s == nil {
			errs = append(errs, fmt.Errorf("key_sources: entry %d is nil: write one such as Header(\"x-api-key\")", i+1))
		} else if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("key_sources: entry %d: %w", i+1, err))
		} else if j := slices.IndexFunc(sources[:i], func(t KeySource) bool { return t != nil && t.String() == s.String() }); j >= 0 {
			errs = append(errs, fmt.Errorf("key_sources: entry %d is the same as entry %d: leave one out", i+1, j+1))
		}
	}
	return errors.Join(errs...)
}

// secret returns the secret of the first source that is present, and the source's index; -1
// where none is.
func (c *Checker) secret(a *Attributes) (string, int) {
	for i, s := range c.sources {
		if secret := s.find(a); secret != "" {
			return secret, i
		}
	}
	return "", -1
}

// strip takes every secret out of what goes upstream: the one that was used, unless it is to
// be forwarded, and the others, which were not checked.
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

// defaultScheme is the scheme of a secret that is sent without one.
const defaultScheme = "ApiKey"
