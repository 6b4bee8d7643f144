package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"extauthz/config"
	"extauthz/keystore"
)

// A trustedCheck finds whitelist entries that match no client, since every address in them is a
// trusted proxy. It reports each entry once, with the first key that has it.
type trustedCheck struct {
	proxies []netip.Prefix
	shut    map[netip.Prefix]*holders
}

func newTrustedCheck(c config.ClientAddress) *trustedCheck {
	t := &trustedCheck{shut: make(map[netip.Prefix]*holders)}
	if c.From == config.FromXForwardedFor {
		t.proxies = c.TrustedProxies
	}
	return t
}

// cover returns the trusted range that contains all of p, if any.
func (t *trustedCheck) cover(p netip.Prefix) (netip.Prefix, bool) {
	for _, proxy := range t.proxies {
		if proxy.Bits() <= p.Bits() && proxy.Contains(p.Addr()) {
			return proxy, true
		}
	}
	return netip.Prefix{}, false
}

func (t *trustedCheck) add(k *keystore.Key) {
	if len(t.proxies) == 0 || k.Broken != nil {
		return
	}
	for _, p := range k.Whitelist.Prefixes() {
		if _, ok := t.cover(p); !ok {
			continue
		}
		if h := t.shut[p]; h != nil {
			h.more++
		} else {
			t.shut[p] = &holders{first: k.ID}
		}
	}
}

func (t *trustedCheck) report(warn func(error)) {
	byAddress := func(a, b netip.Prefix) int { return a.Compare(b) }
	for _, p := range slices.SortedFunc(maps.Keys(t.shut), byAddress) {
		proxy, _ := t.cover(p)
		who := fmt.Sprintf("key %q lists", t.shut[p].first)
		if more := t.shut[p].more; more > 0 {
			who = fmt.Sprintf("key %q and %d more list", t.shut[p].first, more)
		}
		warn(fmt.Errorf("%s %s, which client_address trusts (%s): a trusted proxy is never the client, so the entry matches no request: list only the proxies in trusted_proxies",
			who, keystore.FormatWhitelistEntry(p), keystore.FormatWhitelistEntry(proxy)))
	}
}
