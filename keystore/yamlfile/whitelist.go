package yamlfile

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// An entry is one range of a whitelist and where it stands.
type entry struct {
	prefix netip.Prefix
	node   *yaml.Node
}

func (r *reader) readWhitelist(n *yaml.Node) {
	r.record.key.Whitelist = once(r, "ip_whitelist", n, func() keystore.Whitelist {
		switch v := strictyaml.Resolve(n); {
		case v.Kind == yaml.SequenceNode && len(v.Content) == 0:
			r.d.Errorf(n, "%v", keystore.ErrEmptyWhitelist)
			return keystore.Whitelist{}
		case v.Tag == "!!null":
			r.d.Errorf(n, "nothing where the list of addresses is expected: leave ip_whitelist out to allow every address, or write enabled: false to allow none")
			return keystore.Whitelist{}
		case v.Kind == yaml.ScalarNode && asList(v.Value) != "":
			r.d.Errorf(n, "text where the list of addresses is expected: write %s", asList(v.Value))
			return keystore.Whitelist{}
		}
		entries := make([]entry, 0, len(strictyaml.Resolve(n).Content))
		r.d.Sequence(n, func(item *yaml.Node) {
			if p, ok := r.entry(item); ok {
				entries = append(entries, entry{p, item})
			}
		})
		prefixes := make([]netip.Prefix, len(entries))
		for i, e := range entries {
			prefixes[i] = e.prefix
		}
		whitelist := keystore.NewWhitelist(prefixes)
		r.warnOfEntries(n, entries, whitelist.Warning())
		return whitelist
	})
}

func (r *reader) entry(n *yaml.Node) (netip.Prefix, bool) {
	switch v := strictyaml.Resolve(n); {
	case v.Kind == yaml.MappingNode:
		// [::1] and [fe80::] are mappings to YAML, and so is the item in "- fe80::".
		r.d.Errorf(n, "a mapping where an address is expected: write an IPv6 address in quotes, such as \"2001:db8::/32\"")
		return netip.Prefix{}, false
	case v.Kind == yaml.SequenceNode:
		r.d.Errorf(n, "a list where an address is expected: write every entry in the one list")
		return netip.Prefix{}, false
	case v.Tag == "!!null":
		r.d.Errorf(n, "an empty entry: write an IP address or a CIDR range, such as 192.0.2.7 or 192.0.2.0/24, or remove it")
		return netip.Prefix{}, false
	}
	errs := len(r.d.Errors)
	text := r.d.Plain(n)
	if len(r.d.Errors) > errs {
		return netip.Prefix{}, false
	}
	p, err := keystore.ParseWhitelistEntry(text)
	if err != nil {
		r.d.Errorf(n, "%v", err)
	}
	return p, err == nil
}

// asList returns entries that stand in one text as a list, or "" if they are no entries.
func asList(text string) string {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
	if slices.ContainsFunc(parts, func(p string) bool { _, err := keystore.ParseWhitelistEntry(p); return err != nil }) {
		return ""
	}
	return list(parts, strings.Clone)
}

// warnOfEntries adds a warning about the list as a whole, if there is one, and warnings about
// entries that allow every address, and about those that add nothing because another one holds
// the same addresses.
func (r *reader) warnOfEntries(list *yaml.Node, entries []entry, warning string) {
	if warning != "" {
		r.d.Warnf(list, "%s", warning)
	}
	for _, e := range entries {
		if e.prefix.Bits() == 0 && warning == "" {
			r.d.Warnf(e.node, "%s lets every %s address in: leave ip_whitelist out if the key may be used from anywhere", e.prefix, family(e.prefix))
		}
	}
	if len(entries) < 2 {
		return
	}
	// In this order a range comes right before those within it, and the first of two equal
	// ones before the second.
	sorted := slices.Clone(entries)
	slices.SortStableFunc(sorted, func(a, b entry) int {
		return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(a.prefix.Bits(), b.prefix.Bits()))
	})
	outer := sorted[0]
	for _, e := range sorted[1:] {
		switch {
		case e.prefix == outer.prefix:
			r.d.Warnf(e.node, "%s stands twice: keep one of them", keystore.FormatWhitelistEntry(e.prefix))
		case outer.prefix.Contains(e.prefix.Addr()):
			r.d.Warnf(e.node, "%s is within %s, which is in the list too: keep one of them", keystore.FormatWhitelistEntry(e.prefix), outer.prefix)
		default:
			outer = e
		}
	}
}

func family(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "IPv4"
	}
	return "IPv6"
}
