package server

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"extauthz/authz"
)

// otherOwners is the label of the owners that have no count of their own.
const otherOwners = "other"

// An ownerCount counts decisions by the owner of the key and by code. The first owners that are seen
// have a count of their own, up to a limit that bounds the number of series; all others share one.
// The zero value counts nothing. It is safe for concurrent use.
type ownerCount struct {
	now atomic.Pointer[ownerTable] // nil: nothing is counted
	mu  sync.Mutex                 // held to replace it
}

// An ownerTable has the counts of owners. It does not change, but its counts do.
type ownerTable struct {
	limit  int
	owners map[string]*codeCounts
	other  *codeCounts
}

// codeCounts are how often each code was decided.
type codeCounts [authz.Valid + 1]atomic.Uint64

// setLimit sets how many owners are counted separately; 0 for none. A new limit resets the counts.
func (c *ownerCount) setLimit(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch t := c.now.Load(); {
	case n == 0:
		c.now.Store(nil)
	case t == nil || t.limit != n:
		c.now.Store(&ownerTable{limit: n, owners: map[string]*codeCounts{}, other: new(codeCounts)})
	}
}

// observe counts a decision on a key that has an owner.
func (c *ownerCount) observe(d *authz.Decision) {
	t := c.now.Load()
	if t == nil || d.Key == nil || d.Key.ExternalID == "" || int(d.Code) >= len(codeCounts{}) {
		return
	}
	counts := t.owners[d.Key.ExternalID]
	switch {
	case counts != nil:
	case len(t.owners) >= t.limit:
		counts = t.other
	default:
		counts = c.add(d.Key.ExternalID)
	}
	if counts != nil {
		counts[d.Code].Add(1)
	}
}

// add returns the counts of an owner, which get a place of their own if there is one. It returns nil
// if nothing is counted any more.
func (c *ownerCount) add(owner string) *codeCounts {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.now.Load()
	switch {
	case t == nil:
		return nil
	case t.owners[owner] != nil:
		return t.owners[owner]
	case len(t.owners) >= t.limit || owner == otherOwners || !utf8.ValidString(owner):
		return t.other
	}
	next := &ownerTable{limit: t.limit, owners: maps.Clone(t.owners), other: t.other}
	counts := new(codeCounts)
	next.owners[strings.Clone(owner)] = counts // the key may be evicted
	c.now.Store(next)
	return counts
}

var ownerDecisions = prometheus.NewDesc("extauthz_owner_decisions_total", "Decisions on keys that have an owner (external_id), by owner and code: those of the first metrics.owners owners, and of all others together.", []string{"owner", "code"}, nil)

// Describe implements [prometheus.Collector].
func (c *ownerCount) Describe(ch chan<- *prometheus.Desc) { ch <- ownerDecisions }

// Collect implements [prometheus.Collector].
func (c *ownerCount) Collect(ch chan<- prometheus.Metric) {
	t := c.now.Load()
	if t == nil {
		return
	}
	show := func(owner string, counts *codeCounts) {
		for code := range counts {
			if n := counts[code].Load(); n > 0 || counts == t.other {
				ch <- prometheus.MustNewConstMetric(ownerDecisions, prometheus.CounterValue, float64(n), owner, authz.Code(code).String())
			}
		}
	}
	for owner, counts := range t.owners {
		show(owner, counts)
	}
	show(otherOwners, t.other)
}
