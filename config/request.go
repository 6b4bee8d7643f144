package config

import (
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

func (r *reader) keySources(n *yaml.Node) {
	var sources []KeySource
	ok := r.Sequence(n, func(n *yaml.Node) {
		s, ok := r.keySource(n)
		switch {
		case !ok:
		case slices.Contains(sources, s):
			r.Errorf(n, "this source stands twice: keep one of them")
		default:
			sources = append(sources, s)
		}
	})
	if ok && empty(n) {
		r.Errorf(n, "the list is empty, so that no request could carry a secret: write one such as [{header: x-api-key}]")
	}
	r.c.KeySources = sources
}

func (r *reader) keySource(n *yaml.Node) (KeySource, bool) {
	var s KeySource
	kinds, bad := 0, len(r.Errors)
	var header, scheme *yaml.Node
	r.Mapping(n, strictyaml.Fields{
		"header": func(n *yaml.Node) { kinds++; header = n; s.Header = r.headerName(n) },
		"scheme": func(n *yaml.Node) { scheme = n; s.Scheme = r.token(n, "a scheme such as Bearer") },
		"query":  func(n *yaml.Node) { kinds++; s.Query = r.parameter(n) },
		"cookie": func(n *yaml.Node) { kinds++; s.Cookie = r.token(n, "a cookie's name such as api_key") },
	})
	if len(r.Errors) > bad {
		return s, false
	}
	switch {
	case kinds != 1:
		r.Errorf(n, "a source has exactly one of header, query and cookie: write one of them, and another source for another")
	case scheme != nil && header == nil:
		r.Errorf(scheme, "scheme goes with header only: leave it out")
	case s.Header == "authorization" && scheme == nil:
		r.Warnf(header, "without a scheme the whole value of authorization is the secret, \"Bearer \" too: write `scheme: Bearer` beside it if callers send one")
	}
	return s, len(r.Errors) == bad
}

// identityPrefix begins the headers that tell the upstream who called; those of callers are
// dropped.
const identityPrefix = "x-extauthz-"

// headerName reads the name of a header that Envoy hands over and can take away.
func (r *reader) headerName(n *yaml.Node) string {
	name := strings.ToLower(r.token(n, "a header's name such as x-api-key"))
	switch {
	case name == "host":
		r.Errorf(n, "host cannot be taken away from a request: write another header")
	case name == "cookie":
		r.Errorf(n, "cookie holds many values: write `cookie: NAME`, with the name of the one cookie")
	case strings.HasPrefix(name, identityPrefix):
		r.Errorf(n, "headers that begin with %s are dropped from every request: write another header", identityPrefix)
	}
	return name
}

// token reads a token as RFC 9110 section 5.6.2 has it.
func (r *reader) token(n *yaml.Node, what string) string {
	s, ok := value(r, n, r.String)
	if ok && (s == "" || strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", c)
	})) {
		r.Errorf(n, "%q is not %s: write letters, digits and - or _ alone", written(n), what)
	}
	return s
}

// parameter reads the name of a query parameter.
func (r *reader) parameter(n *yaml.Node) string {
	s, ok := value(r, n, r.String)
	if ok && (s == "" || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune("&=#%+", c) })) {
		r.Errorf(n, "%q is not a query parameter's name such as api_key: write letters, digits and - or _ alone", written(n))
	}
	return s
}

// addressFields are the fields of client_address where the file has them.
type addressFields struct {
	proxies, hops, appended, header *yaml.Node
}

func (r *reader) clientAddress(n *yaml.Node) {
	c := &r.c.ClientAddress
	var f addressFields
	ok := r.Mapping(n, strictyaml.Fields{
		"from":            func(n *yaml.Node) { c.From = ""; r.oneOf(n, &c.From, FromPeer, FromXForwardedFor, FromHeader) },
		"trusted_proxies": func(n *yaml.Node) { f.proxies = n; r.trustedProxies(n) },
		"trusted_hops":    func(n *yaml.Node) { f.hops = n; r.number(n, &c.TrustedHops, 1, 100) },
		"xff_appended":    func(n *yaml.Node) { f.appended = n; c.XFFAppended = r.Bool(n) },
		"header":          func(n *yaml.Node) { f.header = n; c.Header = r.headerName(n) },
	})
	if ok && c.From != "" { // what goes with an unknown source cannot be told
		r.together(n, f)
	}
}

// together checks that the fields of client_address fit each other.
func (r *reader) together(n *yaml.Node, f addressFields) {
	c := r.c.ClientAddress
	only := func(n *yaml.Node, field, from string) {
		if n != nil && c.From != from {
			r.Errorf(n, "%s goes with `from: %s` only: write that, or leave %s out", field, from, field)
		}
	}
	only(f.proxies, "trusted_proxies", FromXForwardedFor)
	only(f.hops, "trusted_hops", FromXForwardedFor)
	only(f.header, "header", FromHeader)
	switch {
	case c.From == FromXForwardedFor && f.proxies != nil && f.hops != nil:
		r.Errorf(f.hops, "trusted_hops and trusted_proxies are two ways to say whom to believe: keep one of them")
	case c.From == FromXForwardedFor && f.proxies == nil && f.hops == nil:
		r.Errorf(n, "x_forwarded_for is written by callers too: write whom to believe, as trusted_proxies: [10.0.0.0/8] or trusted_hops: 1")
	case f.appended != nil && f.hops == nil:
		r.Errorf(f.appended, "xff_appended goes with trusted_hops only: leave it out")
	case c.From == FromHeader && f.header == nil:
		r.Errorf(n, "header is missing: write the name of the header that your own proxy sets and overwrites")
	case c.From == FromHeader:
		r.addressHeader(f.header, c.Header)
	}
}

func (r *reader) addressHeader(n *yaml.Node, name string) {
	r.addressFrom = n
	switch name {
	case "x-forwarded-for":
		r.Errorf(n, "x-forwarded-for is a list that callers write too: write `from: x_forwarded_for` with trusted_proxies or trusted_hops")
	case "x-envoy-external-address":
		r.Warnf(n, "an Envoy without use_remote_address: true passes on what callers write into x-envoy-external-address")
	}
}

func (r *reader) trustedProxies(n *yaml.Node) {
	var proxies []netip.Prefix
	ok := r.Sequence(n, func(n *yaml.Node) {
		s, ok := value(r, n, r.Plain)
		if !ok {
			return
		}
		p, err := keystore.ParseWhitelistEntry(s)
		switch {
		case err != nil && s != written(n):
			r.Errorf(n, "%q does not stand for an IP address or a CIDR range", written(n))
			return
		case err != nil:
			r.Errorf(n, "%v", err)
			return
		case p.Bits() == 0:
			r.Warnf(n, "%s trusts every peer, so that callers write their own address into x-forwarded-for: list your proxies alone", p)
		}
		proxies = append(proxies, p)
	})
	if ok && empty(n) {
		r.Errorf(n, "the list is empty, so that no proxy is believed: write `from: peer`, or list your proxies")
	}
	r.c.ClientAddress.TrustedProxies = proxies
}

// apart checks that no header is both a secret and an address.
func (r *reader) apart() {
	name := r.c.ClientAddress.Header
	if r.addressFrom != nil && slices.ContainsFunc(r.c.KeySources, func(s KeySource) bool { return s.Header == name }) {
		r.Errorf(r.addressFrom, "%q is one of the key_sources: a header holds a secret or an address, not both", written(r.addressFrom))
	}
}
