package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"extauthz/keystore"
)

func newKeyAllowCommand() *cobra.Command {
	restrict := false
	v := &keyVerb{change: func(k *keystore.Key, args []string) (string, error) { return allow(k, args, restrict) }}
	cmd := v.command(&cobra.Command{
		Use:   "allow ID ADDRESS|CIDR…",
		Short: "Let a key be used from more addresses",
		Long: `Add addresses or CIDR ranges to those from which a key may be used.

A key without such a list may be used from everywhere, so that a first entry takes all other
addresses away. That is done only with --restrict.`,
		Example: `  extauthz key allow key_acme 10.1.0.0/16 --config extauthz.yaml
  extauthz key allow key_open 192.0.2.7 --restrict --config extauthz.yaml`,
		Args: cobra.MinimumNArgs(2),
	})
	cmd.Flags().BoolVar(&restrict, "restrict", false, "begin a list for a key that may be used from everywhere")
	return cmd
}

func newKeyDisallowCommand() *cobra.Command {
	v := &keyVerb{change: disallow}
	return v.command(&cobra.Command{
		Use:   "disallow ID ADDRESS|CIDR…",
		Short: "Take addresses away from a key",
		Long: `Remove addresses or CIDR ranges from those from which a key may be used. Each must be as it
stands in the list: one address cannot be cut out of a range. The last entry cannot be removed;
a key that may be used from nowhere is a disabled one.`,
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
		return "", fmt.Errorf("%s may be used from everywhere, and an entry would take all other addresses away: add --restrict if that is meant", k.ID)
	}
	list := slices.Clone(k.Whitelist.Prefixes())
	var fresh []netip.Prefix
	for _, p := range added {
		if !slices.Contains(list, p) {
			list, fresh = append(list, p), append(fresh, p)
		}
	}
	if len(fresh) == 0 {
		return "allowed already from " + formatEntries(added), errNoChange
	}
	k.Whitelist = keystore.NewWhitelist(list)
	return "allowed from " + formatEntries(fresh), nil
}

func disallow(k *keystore.Key, entries []string) (string, error) {
	gone, err := parseEntries(entries)
	if err != nil {
		return "", err
	}
	if !k.Whitelist.Restricted() {
		return "", fmt.Errorf("%s may be used from everywhere, so there is no entry to remove: begin a list by `extauthz key allow --restrict`", k.ID)
	}
	before := k.Whitelist.Prefixes()
	left := slices.DeleteFunc(slices.Clone(before), func(p netip.Prefix) bool { return slices.Contains(gone, p) })
	for _, p := range gone {
		for _, l := range left {
			if l.Overlaps(p) && (l.Bits() <= p.Bits() || !slices.Contains(before, p)) {
				return "", fmt.Errorf("%s would still be allowed, in whole or in part, by the entry %s: remove that, or write narrower ones in its place first",
					keystore.FormatWhitelistEntry(p), keystore.FormatWhitelistEntry(l))
			}
		}
	}
	switch len(left) {
	case len(before):
		return "not allowed anyway from " + formatEntries(gone), errNoChange
	case 0:
		return "", fmt.Errorf("%s would be left without an entry, which says neither \"anyone\" nor \"no one\": disable the key to allow no one", k.ID)
	}
	k.Whitelist = keystore.NewWhitelist(left)
	done := "not allowed any more from " + formatEntries(gone)
	within := slices.DeleteFunc(slices.Clone(left), func(l netip.Prefix) bool { return !slices.ContainsFunc(gone, l.Overlaps) })
	if len(within) > 0 {
		done += ", but for " + formatEntries(within)
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

// expire sets the moment that the one argument names.
func expire(k *keystore.Key, args []string) (string, error) {
	var moment time.Time
	if args[0] != "never" {
		var err error
		if moment, err = parseExpiry(args[0], time.Now()); err != nil {
			return "", fmt.Errorf("%w; or write never", err)
		}
	}
	verb := "expires "
	if moment.Equal(k.Expires) {
		return verb + expiry(k) + " already", errNoChange
	}
	k.Expires = moment
	return verb + expiry(k), nil
}
