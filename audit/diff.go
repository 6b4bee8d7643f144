package audit

import (
	"bytes"
	"encoding/json"

	"extauthz/keystore"
)

// Fields are the fields in the trail, in the order of a key file. The id never changes.
var Fields = []string{
	"name", "hash", "ip_whitelist", "ip_whitelist_mode", "previous", "enabled", "expires", "external_id",
	"permissions", "roles", "ratelimits", "meta",
}

// maxValue is the length, in bytes of JSON, of the longest value that is recorded completely. It bounds the
// size of the record of an edit of a key with a long list.
const maxValue = 16 << 10

// Diff returns the fields in which two keys differ; nil is a key that does not exist. It returns no hash. A
// changed hash is a change without values, and is not reported for a key that is added or deleted.
func Diff(before, after *keystore.Key) []FieldChange {
	was, is := fieldsOf(before), fieldsOf(after)
	var changes []FieldChange
	for _, name := range Fields {
		c := FieldChange{Field: name, Before: was[name], After: is[name]}
		same := bytes.Equal(c.Before, c.After)
		if before != nil && after != nil {
			switch name {
			case "hash":
				same = before.Hash == after.Hash
			case "previous":
				same = same && before.Previous.Hash == after.Previous.Hash
			}
		}
		if !same {
			changes = append(changes, c.shorten())
		}
	}
	return changes
}

// fieldsOf returns the fields that a key has, as JSON, without its hashes.
func fieldsOf(k *keystore.Key) map[string]json.RawMessage {
	if k == nil {
		return nil
	}
	shown := *k
	shown.Previous.Hash, shown.Broken = keystore.Hash{}, nil
	if len(shown.Meta) > 0 && !json.Valid(shown.Meta) || string(shown.Meta) == "null" {
		shown.Meta = nil
	}
	record, err := keystore.EncodeKey(&shown)
	var fields map[string]json.RawMessage
	if err != nil || json.Unmarshal(record, &fields) != nil {
		return nil // impossible: meta was its only JSON that could be invalid
	}
	if k.Whitelist.Restricted() && len(k.Whitelist.Prefixes()) == 0 {
		fields["ip_whitelist"] = json.RawMessage("[]") // refuses all, unlike a missing one
	}
	return fields
}

// shorten returns c without values that are too long.
func (c FieldChange) shorten() FieldChange {
	fits := func() bool { return len(c.Before) <= maxValue && len(c.After) <= maxValue }
	if fits() {
		return c
	}
	removed, added := missing(c.Before, c.After), missing(c.After, c.Before)
	c = FieldChange{Field: c.Field, Before: encodeList(removed), After: encodeList(added), Partial: true}
	if !fits() {
		return FieldChange{Field: c.Field, Partial: true}
	}
	return c
}

func encodeList(entries []string) json.RawMessage {
	if len(entries) == 0 {
		return nil
	}
	b, err := json.Marshal(entries)
	if err != nil {
		return nil // impossible for strings
	}
	return b
}
