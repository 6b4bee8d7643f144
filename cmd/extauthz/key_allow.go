package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"extauthz/keystore"
)

func newKeyAllowCommand() *cobra.Command {
	restrict := false
	c := &editCommand{change: func(k *keystore.Key, args []string) (string, error) { return allow(k, args, restrict) }}
	cmd := c.command(&cobra.Command{
		Use:   "allow ID ADDRESS|CIDR…",
		Short: "Add addresses to a key's whitelist",
		Long: `Add addresses or CIDR ranges to a key's ip_whitelist.

A key without a whitelist may be used from everywhere, so its first entry excludes all other
addresses. Changing such a key requires --restrict.`,
		Example: `  extauthz key allow key_acme 10.1.0.0/16 --config extauthz.yaml
  extauthz key allow key_open 192.0.2.7 --restrict --config extauthz.yaml`,
		Args: cobra.MinimumNArgs(2),
	})
	cmd.Flags().BoolVar(&restrict, "restrict", false, "start a whitelist for a key that may be used from everywhere")
	return cmd
}

func newKeyDisallowCommand() *cobra.Command {
	c := &editCommand{change: disallow}
	return c.command(&cobra.Command{
		Use:   "disallow ID ADDRESS|CIDR…",
		Short: "Remove addresses from a key's whitelist",
		Long: `Remove addresses or CIDR ranges from a key's ip_whitelist. Each must be an entry of it: a single
address cannot be removed from a range. The last entry cannot be removed: to refuse the key from
all addresses, disable it.`,
		Example: "  extauthz key disallow key_acme 10.1.0.0/16 --config extauthz.yaml",
		Args:    cobra.MinimumNArgs(2),
	})
}

func allow(k *keystore.Key, entries []string, restrict bool) (string, error) {
	added, err := parseEntries(entries)
	if err != nil {
		return "", err
	}
	if !k.Whitelist.Restricted() && !restrict {
		return "", fmt.Errorf("%s may be used from everywhere, and an entry would exclude all other addresses: to do that, add --restrict", k.ID)
	}
	list := slices.Clone(k.Whitelist.Prefixes())
	var fresh []netip.Prefix
	for _, p := range added {
		if !slices.Contains(list, p) {
			list, fresh = append(list, p), append(fresh, p)
		}
	}
	if len(fresh) == 0 {
		return "already allowed from " + formatEntries(added), errNoChange
	}
	k.Whitelist = keystore.NewWhitelist(list)
	return "allowed from " + formatEntries(fresh), nil
}

func disallow(k *keystore.Key, entries []string) (string, error) {
	removed, err := parseEntries(entries)
	if err != nil {
		return "", err
	}
	if !k.Whitelist.Restricted() {
		return "", fmt.Errorf("%s may be used from everywhere, so there is no entry to remove: start a whitelist with `extauthz key allow --restrict`", k.ID)
	}
	before := k.Whitelist.Prefixes()
	left := slices.DeleteFunc(slices.Clone(before), func(p netip.Prefix) bool { return slices.Contains(removed, p) })
	for _, p := range removed {
		for _, l := range left {
			if l.Overlaps(p) && (l.Bits() <= p.Bits() || !slices.Contains(before, p)) {
				return "", fmt.Errorf("%s would still be allowed, in whole or in part, by the entry %s: remove that entry, or replace it with narrower ones first",
					keystore.FormatWhitelistEntry(p), keystore.FormatWhitelistEntry(l))
			}
		}
	}
	switch len(left) {
	case len(before):
		return "already not allowed from " + formatEntries(removed), errNoChange
	case 0:
		return "", fmt.Errorf("%s would have an empty whitelist, which says neither \"anyone\" nor \"no one\": disable the key to allow no one", k.ID)
	}
	k.Whitelist = keystore.NewWhitelist(left)
	done := "no longer allowed from " + formatEntries(removed)
	within := slices.DeleteFunc(slices.Clone(left), func(l netip.Prefix) bool { return !slices.ContainsFunc(removed, l.Overlaps) })
	if len(within) > 0 {
		done += ", except " + formatEntries(within)
	}
	return done, nil
}

func parseEntries(entries []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	var errs []error
	for _, e := range entries {
		p, err := keystore.ParseWhitelistEntry(e)
		if err != nil {
			errs = append(errs, err)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, errors.Join(errs...)
}

func formatEntries(prefixes []netip.Prefix) string {
	var entries []string
	for _, p := range prefixes {
		entries = append(entries, keystore.FormatWhitelistEntry(p))
	}
	return strings.Join(entries, " ")
}
