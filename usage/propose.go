package usage

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"extauthz/keystore"
)

// ProposalOptions limit a proposal.
type ProposalOptions struct {
	Since       time.Time // addresses that were not allowed since then are too old
	MinRequests uint64    // addresses with fewer allowed requests are left out; 0 counts as 1
	MinDays     int       // addresses that were allowed on fewer days are left out; 0 counts as 1
	MaxEntries  int       // of more entries, those with the fewest requests are left out; 0: no bound

	// Widen4 and Widen6 are the shortest prefix lengths to which ranges may grow so that fewer are
	// needed; 0: ranges contain only addresses that were seen.
	Widen4, Widen6 int
}

// MinWiden4 and MinWiden6 are the smallest values of Widen4 and Widen6.
const (
	MinWiden4 = 8
	MinWiden6 = 16
)

// Validate returns an error that describes what is wrong with the options and what to write instead.
func (o ProposalOptions) Validate() error {
	var errs []error
	if o.Widen4 != 0 && (o.Widen4 < MinWiden4 || o.Widen4 > 32) {
		errs = append(errs, fmt.Errorf("widen: %d: write a length from %d to 32 for IPv4, such as 24", o.Widen4, MinWiden4))
	}
	if o.Widen6 != 0 && (o.Widen6 < MinWiden6 || o.Widen6 > IPv6Bits) {
		errs = append(errs, fmt.Errorf("widen: %d: write a length from %d to %d for IPv6, such as 56", o.Widen6, MinWiden6, IPv6Bits))
	}
	if o.MinDays < 0 || o.MaxEntries < 0 {
		errs = append(errs, errors.New("min-days and max-entries: write 0 or more"))
	}
	return errors.Join(errs...)
}

// A Proposal is a whitelist that would have allowed the requests that it covers.
type Proposal struct {
	Entries  []Entry // in order, IPv4 first
	LeftOut  []LeftOut
	Coverage Coverage
}

// Coverage sums up a proposal's entries.
type Coverage struct {
	Addresses int    // networks that were seen and are in an entry
	Requests  uint64 // allowed requests from them
	Adds      uint64 // addresses that are in an entry and were not seen; IPv6 counts by /64
}

// An Entry is one range of a proposal, with the use that it covers.
type Entry struct {
	Prefix    netip.Prefix
	Addresses int    // networks in it that were seen
	Requests  uint64 // allowed requests from them
	Days      int    // days on which there were any
	Adds      uint64 // addresses in it that were not seen; IPv6 counts by /64
}

// A LeftOut is a network from which the key was allowed and that is in no entry.
type LeftOut struct {
	Network  netip.Prefix
	Requests uint64
	Reason   string // "too few requests", "too few days", "too old" or "too many entries"
}

// The reasons why a network is left out of a proposal.
const (
	TooFewRequests = "too few requests"
	TooFewDays     = "too few days"
	TooOld         = "too old"
	TooManyEntries = "too many entries"
)

// Propose returns the smallest set of ranges that covers the networks from which the key was
// allowed, within the options. u must contain all rows to consider, including those from before
// [ProposalOptions.Since].
func Propose(u *KeyUsage, o ProposalOptions) Proposal {
	var p Proposal
	var chosen []Address
	for _, a := range u.Addresses(time.Time{}) {
		recent := recentPart(u, &a, o.Since)
		switch {
		case a.Allowed == 0:
		case recent.Allowed == 0:
			p.LeftOut = append(p.LeftOut, LeftOut{a.Network, a.Allowed, TooOld})
		case recent.Allowed < o.MinRequests:
			p.LeftOut = append(p.LeftOut, LeftOut{a.Network, recent.Allowed, TooFewRequests})
		case len(recent.Days) < o.MinDays:
			p.LeftOut = append(p.LeftOut, LeftOut{a.Network, recent.Allowed, TooFewDays})
		default:
			chosen = append(chosen, recent)
		}
	}
	networks := make([]netip.Prefix, len(chosen))
	for i := range chosen {
		networks[i] = chosen[i].Network
	}
	for _, r := range Ranges(networks, o.Widen4, o.Widen6) {
		p.Entries = append(p.Entries, newEntry(r, chosen))
	}
	p.limit(o.MaxEntries, chosen)
	for i := range p.Entries {
		e := &p.Entries[i]
		p.Coverage.Addresses += e.Addresses
		p.Coverage.Requests += e.Requests
		p.Coverage.Adds += e.Adds
	}
	return p
}

// recentPart returns the part of the address's use that was last seen at since or later.
func recentPart(u *KeyUsage, a *Address, since time.Time) Address {
	if since.IsZero() || !a.First.Before(since) {
		return *a
	}
	i, _ := slices.BinarySearchFunc(u.Rows, a.Network, func(r Row, n netip.Prefix) int { return r.Network.Compare(n) })
	rows := u.Rows[i:]
	n := 0
	for n < len(rows) && rows[n].Network == a.Network {
		n++
	}
	part := KeyUsage{Rows: rows[:n]}
	if recent := part.Addresses(since); len(recent) == 1 {
		return recent[0]
	}
	return Address{Network: a.Network}
}

// newEntry returns the entry of a range with what it covers.
func newEntry(r netip.Prefix, seen []Address) Entry {
	e := Entry{Prefix: r}
	days := make(map[Day]bool)
	for i := range seen {
		if !covers(r, seen[i].Network) {
			continue
		}
		e.Addresses++
		e.Requests += seen[i].Allowed
		for _, d := range seen[i].Days {
			days[d] = true
		}
	}
	e.Days = len(days)
	e.Adds = size(r) - uint64(e.Addresses) //nolint:gosec // a count
	return e
}

// limit leaves out the entries with the fewest requests until no more than n are left.
func (p *Proposal) limit(n int, seen []Address) {
	if n == 0 || len(p.Entries) <= n {
		return
	}
	byRequests := slices.Clone(p.Entries)
	slices.SortStableFunc(byRequests, func(a, b Entry) int {
		switch {
		case a.Requests > b.Requests:
			return -1
		case a.Requests < b.Requests:
			return 1
		}
		return 0
	})
	leave := byRequests[n:]
	left := func(e Entry) bool {
		return slices.ContainsFunc(leave, func(l Entry) bool { return l.Prefix == e.Prefix })
	}
	for _, e := range leave {
		for i := range seen {
			if covers(e.Prefix, seen[i].Network) {
				p.LeftOut = append(p.LeftOut, LeftOut{seen[i].Network, seen[i].Allowed, TooManyEntries})
			}
		}
	}
	p.Entries = slices.DeleteFunc(p.Entries, left)
}

// Prefixes returns the entries' ranges, as in a whitelist.
func (p *Proposal) Prefixes() []netip.Prefix {
	prefixes := make([]netip.Prefix, len(p.Entries))
	for i := range p.Entries {
		prefixes[i] = p.Entries[i].Prefix
	}
	return prefixes
}

// Ranges returns the smallest set of ranges that contains all the networks, which must be as
// [Network] returns them. A range that contains anything else is no larger than the widen lengths
// allow, and no larger than necessary; with a length of 0 there is no such range.
func Ranges(networks []netip.Prefix, widen4, widen6 int) []netip.Prefix {
	sorted := slices.Clone(networks)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	return widen(aggregate(slices.Compact(sorted)), widen4, widen6)
}

// aggregate merges adjacent ranges until no two of them form a larger one. The result contains only
// the addresses of the sorted, distinct networks.
func aggregate(networks []netip.Prefix) []netip.Prefix {
	var stack []netip.Prefix
	for _, p := range networks {
		for len(stack) > 0 && siblings(stack[len(stack)-1], p) {
			p = parent(p)
			stack = stack[:len(stack)-1]
		}
		stack = append(stack, p)
	}
	return stack
}

func siblings(a, b netip.Prefix) bool {
	return a != b && a.Bits() == b.Bits() && a.Bits() > 0 && a.Addr().BitLen() == b.Addr().BitLen() && parent(a) == parent(b)
}

func parent(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Bits()-1).Masked() }

// widen replaces all ranges that are in the same network of the widen length with the smallest range
// that contains them.
func widen(ranges []netip.Prefix, widen4, widen6 int) []netip.Prefix {
	var result []netip.Prefix
	for _, p := range ranges {
		length := widen6
		if p.Addr().Is4() {
			length = widen4
		}
		if n := len(result); length > 0 && n > 0 && p.Bits() > length {
			if common, ok := commonPrefix(result[n-1], p, length); ok {
				result[n-1] = common
				continue
			}
		}
		result = append(result, p)
	}
	return result
}

// commonPrefix returns the smallest range that contains both, unless it is larger than one of the
// given length.
func commonPrefix(a, b netip.Prefix, length int) (netip.Prefix, bool) {
	if a.Addr().BitLen() != b.Addr().BitLen() {
		return netip.Prefix{}, false
	}
	for bits := min(a.Bits(), b.Bits()); bits >= length; bits-- {
		if p := netip.PrefixFrom(a.Addr(), bits).Masked(); p.Contains(b.Addr()) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// covers reports whether r contains all of the network.
func covers(r, network netip.Prefix) bool {
	return r.Bits() <= network.Bits() && r.Contains(network.Addr())
}

// size returns how many networks, as [Network] returns them, are in the range.
func size(r netip.Prefix) uint64 {
	bits := IPv6Bits
	if r.Addr().Is4() {
		bits = 32
	}
	if r.Bits() >= bits {
		return 1
	}
	return 1 << (bits - r.Bits())
}

// An Evaluation is the effect that a whitelist would have had on the requests that were allowed.
type Evaluation struct {
	Refused         []LeftOut // the networks that it does not completely contain
	RefusedRequests uint64
	Requests        uint64 // all that were allowed
}

// PartlyListed is the reason of a /64 that the whitelist partly contains: its individual addresses
// are not recorded.
const PartlyListed = "partly listed"

// NotListed is the reason of a network that is not in the whitelist.
const NotListed = "not listed"

// Evaluate applies the whitelist to the requests that were allowed since then.
func Evaluate(u *KeyUsage, list keystore.Whitelist, since time.Time) Evaluation {
	var e Evaluation
	for _, a := range u.Addresses(since) {
		if a.Allowed == 0 {
			continue
		}
		e.Requests += a.Allowed
		if Listed(list, a.Network) {
			continue
		}
		reason := NotListed
		if slices.ContainsFunc(list.Prefixes(), a.Network.Overlaps) {
			reason = PartlyListed
		}
		e.Refused = append(e.Refused, LeftOut{a.Network, a.Allowed, reason})
		e.RefusedRequests += a.Allowed
	}
	return e
}

// Listed reports whether the whitelist contains all of the network.
func Listed(list keystore.Whitelist, network netip.Prefix) bool {
	if !list.Restricted() {
		return true
	}
	within := func(p netip.Prefix) bool { return covers(p, network) }
	if slices.ContainsFunc(list.Prefixes(), within) {
		return true
	}
	// Several ranges may cover the network together.
	var parts []netip.Prefix
	for _, p := range list.Prefixes() {
		if network.Overlaps(p) {
			parts = append(parts, p.Masked())
		}
	}
	slices.SortFunc(parts, netip.Prefix.Compare)
	return slices.ContainsFunc(aggregate(disjoint(parts)), within)
}

// disjoint removes ranges that are within another one from sorted ranges.
func disjoint(sorted []netip.Prefix) []netip.Prefix {
	var result []netip.Prefix
	for _, p := range sorted {
		if n := len(result); n > 0 && covers(result[n-1], p) {
			continue
		}
		result = append(result, p)
	}
	return result
}
