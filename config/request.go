package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/check"
	"extauthz/strictyaml"
)

func (r *reader) keySources(n *yaml.Node) {
	var sources []check.KeySource
	ok := r.Sequence(n, func(n *yaml.Node) {
		s := r.keySource(n)
		switch {
		case s == nil:
		case slices.ContainsFunc(sources, func(t check.KeySource) bool { return t.String() == s.String() }):
			r.Errorf(n, "this source is listed twice: keep one of them")
		default:
			sources = append(sources, s)
		}
	})
	if ok && empty(n) {
		r.Errorf(n, "the list is empty, so that no request could carry a secret: write one such as [{header: x-api-key}]")
	}
	r.c.KeySources = sources
}

// places are the fields that name a place; a key source has exactly one.
var places = map[string]func(name string) check.KeySource{
	"header": check.Header,
	"query":  check.Query,
	"cookie": check.Cookie,
}

// keySource reads one source. It returns nil if the source is invalid.
func (r *reader) keySource(n *yaml.Node) check.KeySource {
	var source check.KeySource
	var header, scheme, prefix *yaml.Node
	given, bad := 0, len(r.Errors)
	fields := strictyaml.Fields{
		"scheme": func(n *yaml.Node) { scheme = n },
		"prefix": func(n *yaml.Node) { prefix = n },
	}
	for field, place := range places {
		fields[field] = func(n *yaml.Node) {
			if given++; field == "header" {
				header = n
			}
			source = r.source(n, place)
		}
	}
	r.Mapping(n, fields)
	if len(r.Errors) == bad && given != 1 {
		r.Errorf(n, "a source has exactly one of header, query and cookie: write one of them, and a separate source for each other one")
	}
	if len(r.Errors) > bad {
		return nil
	}
	switch {
	case scheme != nil && header == nil:
		r.Errorf(scheme, "scheme requires header: omit scheme")
	case scheme != nil:
		name := r.String(header)
		source = r.source(scheme, func(scheme string) check.KeySource { return check.Scheme(name, scheme) })
	case header != nil && source.String() == check.Header("authorization").String():
		r.Warnf(header, "without a scheme the whole value of authorization is the secret, including \"Bearer \": add `scheme: Bearer` if callers send one")
	}
	if prefix != nil && source != nil {
		inner := source
		source = r.source(prefix, func(prefix string) check.KeySource { return check.WithPrefix(inner, prefix) })
	}
	return source
}

// source creates a source from the text in n, or reports what is wrong with it.
func (r *reader) source(n *yaml.Node, from func(string) check.KeySource) check.KeySource {
	text, ok := value(r, n, r.String)
	if !ok {
		return nil
	}
	s := from(text)
	if err := s.Validate(); err != nil {
		r.Errorf(n, "%q: %v", written(n), err)
		return nil
	}
	return s
}

// addressFields are the nodes of those fields of client_address that the file has.
type addressFields struct {
	proxies, hops, appended, header, ports *yaml.Node
}

func (r *reader) clientAddress(n *yaml.Node) {
	c := &r.c.ClientAddress
	var f addressFields
	bad := len(r.Errors)
	r.Mapping(n, strictyaml.Fields{
		"from":            func(n *yaml.Node) { c.From = ""; r.oneOf(n, &c.From, FromPeer, FromXForwardedFor, FromHeader) },
		"trusted_proxies": func(n *yaml.Node) { f.proxies = n; r.trustedProxies(n) },
		"trusted_hops":    func(n *yaml.Node) { f.hops = n; c.TrustedHops = int(r.Int(n)) },
		"xff_appended":    func(n *yaml.Node) { f.appended = n; c.XFFAppended = r.Bool(n) },
		"header":          func(n *yaml.Node) { f.header = n; c.Header = strings.ToLower(r.String(n)) },
		"ports":           func(n *yaml.Node) { f.ports = n; c.Ports = r.Bool(n) },
	})
	if c.From == "" { // an unknown source, already reported
		return
	}
	r.together(n, f)
	if len(r.Errors) > bad {
		return
	}
	// Place the error at the only field that Source can still refuse, or at the mapping.
	r.addressFrom = cmp.Or(f.header, f.hops, f.proxies, n)
	if err := c.Source().Validate(); err != nil {
		if f.header != nil {
			err = fmt.Errorf("%q: %w", written(r.addressFrom), err)
		}
		r.Errorf(r.addressFrom, "%v", err)
	} else if c.Header == "x-envoy-external-address" {
		r.Warnf(f.header, "an Envoy without use_remote_address: true forwards what callers write into x-envoy-external-address")
	}
}

// together checks that the fields of client_address are consistent.
func (r *reader) together(n *yaml.Node, f addressFields) {
	from := r.c.ClientAddress.From
	only := func(n *yaml.Node, field, need string, ok bool) {
		if n != nil && !ok {
			r.Errorf(n, "%s requires `from: %s`: write that, or omit %s", field, need, field)
		}
	}
	forwarded, header := from == FromXForwardedFor, from == FromHeader
	only(f.hops, "trusted_hops", FromXForwardedFor, forwarded)
	only(f.header, "header", FromHeader, header)
	only(f.proxies, "trusted_proxies", FromXForwardedFor+"` or `from: "+FromHeader, forwarded || header)
	only(f.ports, "ports", FromXForwardedFor+"` or `from: "+FromHeader, forwarded || header)
	switch {
	case forwarded && f.proxies != nil && f.hops != nil:
		r.Errorf(f.hops, "trusted_hops and trusted_proxies exclude each other: keep one of them")
	case forwarded && f.proxies == nil && f.hops == nil:
		r.Errorf(n, "callers can write x-forwarded-for too: write which proxies to trust, as trusted_proxies: [10.0.0.0/8] or trusted_hops: 1")
	case f.appended != nil && f.hops == nil:
		r.Errorf(f.appended, "xff_appended requires trusted_hops: omit xff_appended")
	case header && f.header == nil:
		r.Errorf(n, "header is missing: write the name of the header that your own proxy sets and overwrites")
	}
}

// apart checks that no header holds both a secret and an address.
func (r *reader) apart() {
	if r.addressFrom == nil {
		return
	}
	address := r.c.ClientAddress.Source()
	if slices.ContainsFunc(r.c.KeySources, func(s check.KeySource) bool { return check.ReadsSameHeader(s, address) }) {
		r.Errorf(r.addressFrom, "client_address reads a header that is one of the key_sources: a header holds a secret or an address, not both")
	}
}
