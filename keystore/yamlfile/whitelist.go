package yamlfile

import (
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

func (r *keyReader) whitelist(k *keystore.Key, n *yaml.Node) {
	k.Whitelist = once(r, "ip_whitelist", n, func() keystore.Whitelist { return r.readWhitelist(n) })
}

func (r *keyReader) readWhitelist(n *yaml.Node) keystore.Whitelist {
	switch v := strictyaml.Resolve(n); {
	case v.Kind == yaml.SequenceNode && len(v.Content) == 0:
		r.Errorf(n, "%v", keystore.ErrEmptyWhitelist)
		return keystore.Whitelist{}
	case v.Tag == "!!null":
		r.Errorf(n, "nothing where the list of addresses is expected: omit ip_whitelist to allow every address, or write enabled: false to allow none")
		return keystore.Whitelist{}
	case v.Kind == yaml.ScalarNode && asList(v.Value) != "":
		r.Errorf(n, "text where the list of addresses is expected: write %s", asList(v.Value))
		return keystore.Whitelist{}
	}
	var prefixes []netip.Prefix
	var places []*yaml.Node
	r.Sequence(n, func(entry *yaml.Node) {
		if p, ok := r.whitelistEntry(entry); ok {
			prefixes, places = append(prefixes, p), append(places, entry)
		}
	})
	whitelist := keystore.NewWhitelist(prefixes)
	for _, w := range whitelist.Warnings() {
		place := n
		if w.Index >= 0 {
			place = places[w.Index]
		}
		r.Warnf(place, "%s", w.Text)
	}
	return whitelist
}

func (r *keyReader) whitelistEntry(n *yaml.Node) (netip.Prefix, bool) {
	errs := len(r.Errors)
	switch v := strictyaml.Resolve(n); {
	case v.Kind == yaml.MappingNode:
		// [::1] and [fe80::] are mappings to YAML, and so is "- fe80::".
		r.Errorf(n, "a mapping where an address is expected: write an IPv6 address in quotes, such as \"2001:db8::/32\"")
	case v.Kind == yaml.SequenceNode:
		r.Errorf(n, "a list where an address is expected: write every entry in the one list")
	case v.Tag == "!!null":
		r.Errorf(n, "an empty entry: write an IP address or a CIDR range, such as 192.0.2.7 or 192.0.2.0/24, or remove it")
	default:
		text := r.Plain(n)
		if len(r.Errors) > errs {
			break
		}
		p, err := keystore.ParseWhitelistEntry(text)
		if err == nil {
			return p, true
		}
		r.Errorf(n, "%v", err)
	}
	return netip.Prefix{}, false
}

// asList returns several entries in one string as a list, or "" if they are not entries.
func asList(text string) string {
	parts := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' })
	if slices.ContainsFunc(parts, func(p string) bool { _, err := keystore.ParseWhitelistEntry(p); return err != nil }) {
		return ""
	}
	return list(parts, strictyaml.Quote)
}
