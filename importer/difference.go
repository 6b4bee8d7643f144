package importer

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"extauthz/keystore"
)

// A Difference is a key that differs between the file and the store.
type Difference struct {
	Stored, File *keystore.Key
}

// Fields returns the names of the fields that differ.
func (d Difference) Fields() []string {
	a, b := d.Stored, d.File
	var names []string
	for _, f := range []struct {
		name string
		same bool
	}{
		{"name", a.Name == b.Name},
		{"hash", a.Hash == b.Hash},
		{"ip_whitelist", a.Whitelist.Equal(b.Whitelist)},
		{"ip_whitelist_mode", a.WhitelistMode == b.WhitelistMode},
		{"enabled", a.Enabled == b.Enabled},
		{"expires", sameTime(a.Expires, b.Expires)},
		{"previous", a.Previous.Hash == b.Previous.Hash && sameTime(a.Previous.Until, b.Previous.Until)},
		{"external_id", a.ExternalID == b.ExternalID},
		{"permissions", slices.Equal(a.Permissions, b.Permissions)},
		{"roles", slices.Equal(a.Roles, b.Roles)},
		{"ratelimits", slices.Equal(a.Ratelimits, b.Ratelimits)},
		{"meta", sameJSON(a.Meta, b.Meta)},
	} {
		if !f.same {
			names = append(names, f.name)
		}
	}
	return names
}

func same(stored, file *keystore.Key) bool {
	return stored.Broken == nil && len(Difference{stored, file}.Fields()) == 0
}

// Restored returns the reasons, each in a few words, why overwriting the key makes it work again for
// requests that the key in the store refuses at that time. It returns none if the key in the file is
// itself not usable at that time.
func (d Difference) Restored(now time.Time) []string {
	was, is := d.Stored, d.File
	if !is.Enabled || is.ExpiredAt(now) {
		return nil
	}
	var facts []string
	for _, f := range []struct {
		restored bool
		fact     string
	}{
		{!was.Enabled, "it was disabled"},
		{was.ExpiredAt(now), "it had expired at " + was.Expires.Format(time.RFC3339)},
		{was.Broken != nil, "its record could not be read"},
		{was.Hash != is.Hash, "it had another secret"},
		{
			is.Previous.WorksAt(is.Previous.Hash, now) && is.Previous.Hash != was.Hash && !was.Previous.WorksAt(is.Previous.Hash, now),
			"its previous secret no longer worked",
		},
		{
			was.Broken == nil && was.WhitelistMode == keystore.Enforce && is.WhitelistMode == keystore.Report && is.Whitelist.Restricted(),
			"its ip_whitelist was enforced",
		},
		{
			was.Broken == nil && was.WhitelistMode == keystore.Enforce && !covers(was.Whitelist, is.Whitelist),
			"its ip_whitelist allowed fewer addresses",
		},
	} {
		if f.restored {
			facts = append(facts, f.fact)
		}
	}
	return facts
}

// covers reports whether each entry of b is within an entry of a.
func covers(a, b keystore.Whitelist) bool {
	if !a.Restricted() || !b.Restricted() {
		return !a.Restricted()
	}
	entries := make(map[netip.Prefix]bool, len(a.Prefixes()))
	for _, p := range a.Prefixes() {
		entries[p] = true
	}
	return !slices.ContainsFunc(b.Prefixes(), func(p netip.Prefix) bool {
		for bits := p.Bits(); bits >= 0; bits-- {
			if entries[netip.PrefixFrom(p.Addr(), bits).Masked()] {
				return false
			}
		}
		return true
	})
}

// sameTime compares times with the precision of stores, microseconds.
func sameTime(a, b time.Time) bool {
	return a.Truncate(time.Microsecond).Equal(b.Truncate(time.Microsecond))
}

// sameJSON compares JSON by its meaning: a store may change the order of fields, white space and the
// format of numbers.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && sameValue(x, y)
}

// decode returns the value of JSON; nil for none.
func decode(data json.RawMessage) (v any, err error) {
	if len(data) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return v, d.Decode(&v)
}

func sameValue(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, sameValue)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, sameValue)
	case json.Number:
		b, ok := b.(json.Number)
		return ok && (a == b || sameNumber(a, b))
	}
	return a == b // strings, booleans and null
}

func sameNumber(a, b json.Number) bool {
	const precision = 512 // bits: over 150 decimal digits
	x, _, errX := big.ParseFloat(a.String(), 10, precision, big.ToNearestEven)
	y, _, errY := big.ParseFloat(b.String(), 10, precision, big.ToNearestEven)
	return errX == nil && errY == nil && x.Cmp(y) == 0
}
