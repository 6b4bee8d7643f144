// Package usage records from which addresses each key is used, proposes whitelists, and evaluates
// them before they refuse anyone. It stores key ids, client addresses, times and counts, and never a
// secret, a hash or a path.
package usage

import (
	"cmp"
	"context"
	"iter"
	"net/netip"
	"slices"
	"time"

	"extauthz/authz"
)

// A Day is a day in UTC, counted from 1970-01-01. Counts are stored by day.
type Day int32

// DayOf returns the day that t is in.
func DayOf(t time.Time) Day {
	const secondsPerDay = 24 * 60 * 60
	s := t.Unix()
	d := s / secondsPerDay
	if s%secondsPerDay < 0 {
		d--
	}
	return Day(d) //nolint:gosec // 2^31 days are five million years
}

// Start returns the first moment of the day.
func (d Day) Start() time.Time { return time.Unix(int64(d)*24*60*60, 0).UTC() }

// String returns the day as in 2006-01-02.
func (d Day) String() string { return d.Start().Format(time.DateOnly) }

// Counts are the requests of one key from one address, by outcome.
type Counts struct {
	Allowed     uint64 // went on to the upstream
	WouldRefuse uint64 // those of Allowed that an enforced whitelist would have refused
	Refused     [authz.Valid]uint64
}

// Add adds o to c.
func (c *Counts) Add(o *Counts) {
	c.Allowed += o.Allowed
	c.WouldRefuse += o.WouldRefuse
	for i, n := range o.Refused {
		c.Refused[i] += n
	}
}

// RefusedTotal returns how many requests were refused, with any code.
func (c *Counts) RefusedTotal() uint64 {
	var total uint64
	for _, n := range c.Refused {
		total += n
	}
	return total
}

// RefusedByCode returns the counts of refusals that are not zero, by the name of their code;
// nil if there are none.
func (c *Counts) RefusedByCode() map[string]uint64 {
	var m map[string]uint64
	for code, n := range c.Refused {
		if n == 0 {
			continue
		}
		if m == nil {
			m = make(map[string]uint64)
		}
		m[authz.Code(code).String()] = n
	}
	return m
}

// IPv6Bits is the length of the network by which IPv6 addresses are counted: hosts can choose the
// other 64 bits (RFC 8981).
const IPv6Bits = 64

// Network returns the network by which addr is counted: the address itself for IPv4, its /64 for
// IPv6. It returns the zero Prefix for an invalid address.
func Network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = IPv6Bits
	}
	p, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// FormatNetwork returns an IPv4 network of one address as that address, and any other as a
// CIDR range.
func FormatNetwork(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// A Row counts the requests of one key from one network on one day.
type Row struct {
	KeyID   string
	Network netip.Prefix // as [Network] returns it
	Day     Day
	Counts
	First, Last time.Time
}

// A Summary records when a key was last used, independent of the stored addresses.
type Summary struct {
	KeyID       string
	LastUsed    time.Time    // allowed or refused; zero: no recorded use
	LastNetwork netip.Prefix // where LastUsed was; the zero Prefix if unknown

	// LastCurrent and LastPrevious are when the key's secret, and the one before its rotation,
	// were last used; zero: no recorded use.
	LastCurrent, LastPrevious time.Time

	// Dropped is when addresses were last dropped because there were too many; zero: never.
	// The rows of the time before it are incomplete.
	Dropped time.Time
}

// Merge merges o, which is about the same key, into s: the latest of each time is kept.
func (s *Summary) Merge(o *Summary) {
	if o.LastUsed.After(s.LastUsed) {
		s.LastUsed, s.LastNetwork = o.LastUsed, o.LastNetwork
	}
	s.LastCurrent = later(s.LastCurrent, o.LastCurrent)
	s.LastPrevious = later(s.LastPrevious, o.LastPrevious)
	s.Dropped = later(s.Dropped, o.Dropped)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// A Batch holds the use that was recorded since the last one. No two of its rows are about the same
// key, network and day, and no two of its summaries about the same key.
type Batch struct {
	Rows      []Row
	Summaries []Summary
}

// Remove takes the first n summaries, and the rows of their keys, out of the batch.
func (b *Batch) Remove(n int) {
	removed := make(map[string]bool, n)
	for i := range b.Summaries[:n] {
		removed[b.Summaries[i].KeyID] = true
	}
	b.Rows = slices.DeleteFunc(b.Rows, func(r Row) bool { return removed[r.KeyID] })
	b.Summaries = b.Summaries[n:]
}

// A KeyUsage is the recorded use of one key.
type KeyUsage struct {
	Summary
	Rows []Row // in order of network, then day
}

// Complete reports whether no address since then was dropped.
func (u *KeyUsage) Complete(since time.Time) bool {
	return u.Dropped.IsZero() || u.Dropped.Before(since)
}

// An Address is one network from which a key was used, over several days.
type Address struct {
	Network netip.Prefix
	Counts
	First, Last time.Time
	Days        []Day // on which a request was allowed, in order
}

// Addresses sums the rows by network, in order of network, without rows that were last seen before
// since.
func (u *KeyUsage) Addresses(since time.Time) []Address {
	var addresses []Address
	for i := range u.Rows {
		r := &u.Rows[i]
		if r.Last.Before(since) {
			continue
		}
		if n := len(addresses); n == 0 || addresses[n-1].Network != r.Network {
			addresses = append(addresses, Address{Network: r.Network, First: r.First})
		}
		a := &addresses[len(addresses)-1]
		a.Add(&r.Counts)
		if r.First.Before(a.First) {
			a.First = r.First
		}
		a.Last = later(a.Last, r.Last)
		if r.Allowed > 0 {
			a.Days = append(a.Days, r.Day)
		}
	}
	return addresses
}

// SortRows puts rows in the order in which a [KeyUsage] has them.
func SortRows(rows []Row) {
	slices.SortFunc(rows, func(a, b Row) int {
		if c := a.Network.Compare(b.Network); c != 0 {
			return c
		}
		return int(a.Day) - int(b.Day)
	})
}

// A ServerReport is a server's report that it is up.
type ServerReport struct {
	Name      string // of the machine and the listener
	Version   string
	ChannelUp bool // its channel that reports changes of keys is up
	Time      time.Time
}

// ForgetServersAfter is how long a store keeps the report of a server that has stopped.
const ForgetServersAfter = 24 * time.Hour

// Limits limit what a [Store] keeps.
type Limits struct {
	// AddressesPerKey is how many networks of one key are kept: if there are more, half of them are
	// the most used, the other half the last used.
	AddressesPerKey int

	// Retention is how long a row is kept after its day.
	Retention time.Duration
}

// A Store stores usage where commands and other replicas can read it. Its methods are safe for
// concurrent use, also by several processes.
type Store interface {
	// Add merges the batch into the store: it adds the counts, and keeps the earliest First and the
	// latest of every other time. It enforces the store's [Limits]. It removes what it has added
	// from the batch, so that after an error the batch holds the rest. If the connection breaks
	// while the store confirms a part, that part may have been added and still be in the batch.
	Add(ctx context.Context, b *Batch) error

	// Key returns the usage of a key: its summary and the rows that were last seen at since or
	// later. A key that was never used has only an id.
	Key(ctx context.Context, id string, since time.Time) (*KeyUsage, error)

	// Summaries yields the summary of each key that was used, whose id is after the given one,
	// in byte order of the ids. It ends at the first error, which it yields.
	Summaries(ctx context.Context, after string) iter.Seq2[*Summary, error]

	// SummariesOf returns the summaries of some keys, by id. Keys that were never used are not in it.
	SummariesOf(ctx context.Context, ids []string) (map[string]*Summary, error)

	// Sharers returns the ids of the keys that were allowed from each of the networks since
	// then, in order.
	Sharers(ctx context.Context, networks []netip.Prefix, since time.Time) (map[netip.Prefix][]string, error)

	// Refusals returns up to limit rows with refusals that were last seen at since or later,
	// newest first.
	Refusals(ctx context.Context, since time.Time, limit int) ([]Row, error)

	// ReportServer records that a server is up. It replaces the server's previous report.
	ReportServer(ctx context.Context, s ServerReport) error

	// Servers returns the servers that reported at since or later, in order of their names.
	Servers(ctx context.Context, since time.Time) ([]ServerReport, error)

	// Close releases the store's resources.
	Close() error
}

// Surplus returns the networks to drop so that no more than n are left: half of those kept, or one
// more, are the most used, the others the last used.
func Surplus(addresses []Address, n int) map[netip.Prefix]bool {
	if len(addresses) <= n {
		return nil
	}
	order := slices.Clone(addresses)
	slices.SortStableFunc(order, func(a, b Address) int {
		return cmp.Compare(b.Allowed+b.RefusedTotal(), a.Allowed+a.RefusedTotal())
	})
	rest := order[(n+1)/2:]
	slices.SortStableFunc(rest, func(a, b Address) int { return b.Last.Compare(a.Last) })
	surplus := make(map[netip.Prefix]bool)
	for _, a := range rest[n-(n+1)/2:] {
		surplus[a.Network] = true
	}
	return surplus
}
