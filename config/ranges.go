package config

import (
	"net/netip"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/files"
	"extauthz/keystore"
	"extauthz/strictyaml"
)

// trustedProxies reads a list of ranges. An item may name a file of ranges: {file: cdn.txt}.
func (r *reader) trustedProxies(n *yaml.Node) {
	var proxies []netip.Prefix
	ok := r.Sequence(n, func(n *yaml.Node) {
		if isMapping(n) {
			r.rangeFile(n, &proxies)
			return
		}
		s, ok := value(r, n, r.Plain)
		if !ok {
			return
		}
		p, err := keystore.ParseWhitelistEntry(s)
		switch {
		case err != nil && s != written(n):
			r.Errorf(n, "the value of %q is not an IP address or a CIDR range", written(n))
			return
		case err != nil:
			r.Errorf(n, "%v", err)
			return
		case p.Bits() == 0:
			r.Warnf(n, trustsEveryone, p)
		}
		proxies = append(proxies, p)
	})
	if ok && empty(n) {
		r.Errorf(n, "the list is empty, so that no proxy is trusted: list your proxies, or omit trusted_proxies")
	}
	r.c.ClientAddress.TrustedProxies = proxies
}

const trustsEveryone = "%s trusts every peer, so that callers can choose their own address: list only your proxies"

func isMapping(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n.Kind == yaml.MappingNode
}

// rangeFile reads {file: PATH}, and the ranges in that file.
func (r *reader) rangeFile(n *yaml.Node, to *[]netip.Prefix) {
	var path string
	named := false
	if r.Mapping(n, strictyaml.Fields{
		"file": func(n *yaml.Node) { named = true; r.path(n, &path, "cdn-ranges.txt") },
	}) && !named {
		r.Errorf(n, "file is missing: write {file: cdn-ranges.txt}, or an address or CIDR range")
	}
	if path == "" {
		return
	}
	r.c.Files = append(r.c.Files, path)
	data, err := files.Read(path)
	if err != nil {
		r.Errorf(n, "the file %s cannot be read: %v", filepath.Base(path), err)
		return
	}
	before := len(*to)
	mistakes := r.ranges(path, string(data), to)
	if len(*to) == before && mistakes == 0 {
		r.Errorf(n, "the file %s contains no ranges: write one address or CIDR range on each line", filepath.Base(path))
	}
}

// maxRangeMistakes is how many mistakes in one file are reported.
const maxRangeMistakes = 100

// ranges reads a file with one address or CIDR range on each line; a comment starts with #. It
// returns how many lines are wrong.
func (r *reader) ranges(path, text string, to *[]netip.Prefix) (mistakes int) {
	line := 0
	for s := range strings.Lines(text) {
		line++
		entry, _, _ := strings.Cut(s, "#")
		column := len(entry) - len(strings.TrimLeft(entry, " \t\r\n")) + 1
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		place := &strictyaml.Error{File: path, Line: line, Column: column}
		p, err := keystore.ParseWhitelistEntry(entry)
		switch {
		case err != nil:
			if mistakes++; mistakes <= maxRangeMistakes {
				place.Message = err.Error()
				r.Errors = append(r.Errors, place)
			}
			continue
		case p.Bits() == 0:
			place.Message = strings.Replace(trustsEveryone, "%s", entry, 1)
			r.Warnings = append(r.Warnings, place)
		}
		*to = append(*to, p)
	}
	return mistakes
}
