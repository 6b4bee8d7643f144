package keystore

import (
	"context"
	"net/netip"
	"strings"
	"time"
)

// A Query describes the keys to search for. The zero value matches all keys; every field that is set
// excludes some.
type Query struct {
	// Text is the prefix of an id, a name or an external id, without regard to the case of ASCII
	// letters.
	Text string

	// Address is in the whitelists of the keys. Keys without a whitelist do not match.
	Address netip.Addr

	State State

	// ExpiresAfter and ExpiresBefore match keys that expire after the one and not after the other;
	// the zero Time is no bound.
	ExpiresAfter, ExpiresBefore time.Time

	After string // the ids of the keys are greater than this
	Limit int    // the largest number of keys; 0: no limit
}

// A State is a kind of keys to search for.
type State uint8

// The states. The zero value is any.
const (
	StateAny          State = iota
	StateDisabled           // disabled
	StateUnrestricted       // without a whitelist
	StateReport             // in report mode
)

// A Searcher is an [Editor] that can search without reading all keys.
type Searcher interface {
	// Search returns the keys that match the query, in byte order of their ids.
	Search(ctx context.Context, q Query) ([]*Key, error)
}

// Search returns the keys that match the query, in byte order of their ids. If the editor is not a
// [Searcher], Search reads all its keys.
func Search(ctx context.Context, e Editor, q Query) ([]*Key, error) {
	if s, ok := e.(Searcher); ok {
		return s.Search(ctx, q)
	}
	var found []*Key
	for k, err := range e.Keys(ctx, q.After) {
		if err != nil {
			return nil, err
		}
		if !q.Matches(k) {
			continue
		}
		if found = append(found, k); q.Limit > 0 && len(found) == q.Limit {
			break
		}
	}
	return found, nil
}

// Matches reports whether the key matches the query. It ignores After and Limit.
func (q *Query) Matches(k *Key) bool {
	if q.Text != "" && !hasPrefixFold(k.ID, q.Text) && !hasPrefixFold(k.Name, q.Text) && !hasPrefixFold(k.ExternalID, q.Text) {
		return false
	}
	if q.Address.IsValid() && (!k.Whitelist.Restricted() || !k.Whitelist.Contains(q.Address)) {
		return false
	}
	if !q.ExpiresAfter.IsZero() && !k.Expires.After(q.ExpiresAfter) {
		return false
	}
	if !q.ExpiresBefore.IsZero() && (k.Expires.IsZero() || k.Expires.After(q.ExpiresBefore)) {
		return false
	}
	switch q.State {
	case StateAny:
	case StateDisabled:
		return !k.Enabled
	case StateUnrestricted:
		return !k.Whitelist.Restricted()
	case StateReport:
		return k.Whitelist.Restricted() && k.WhitelistMode == Report
	}
	return true
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
