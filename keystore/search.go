package keystore

import (
	"context"
	"net/netip"
	"strings"
	"time"
)

// A Query says which keys are searched for. The zero value finds all; every field that is set
// leaves out keys.
type Query struct {
	// Text is what an id, a name or an external id begins with, whatever the case of its ASCII
	// letters.
	Text string

	// Address is one from which the keys found may be used because their list holds it. Keys
	// without a list are not found.
	Address netip.Addr

	State State

	// ExpiresAfter and ExpiresBefore find keys that expire, at a moment after the one and no
	// later than the other; the zero Time is no bound.
	ExpiresAfter, ExpiresBefore time.Time

	After string // the ids of the keys found are after this one
	Limit int    // at most so many keys; 0: no bound
}

// A State is a kind of keys to search for.
type State uint8

// The states. The zero value is any.
const (
	StateAny          State = iota
	StateDisabled           // switched off
	StateUnrestricted       // without a list
	StateReport             // with a list that only reports
)

// A Searcher is an [Editor] that searches better than by reading every key.
type Searcher interface {
	// Search returns the keys that the query finds, in byte order of their ids.
	Search(ctx context.Context, q Query) ([]*Key, error)
}

// Search returns the keys that the query finds, in byte order of their ids. It asks the editor
// itself if that is a [Searcher], and reads its keys otherwise.
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

// Matches reports whether the query finds the key; After and Limit do not count.
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
