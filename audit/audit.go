// Package audit is the trail of edits of keys: who changed which field of which key, and when. It
// holds no secret and no hash. Each store of keys writes the trail in the same step as the edit.
package audit

import (
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"extauthz/keystore"
)

// An Action is what an edit did to a key as a whole.
type Action string

// The actions.
const (
	Add    Action = "add"
	Change Action = "change"
	Delete Action = "delete"
)

// An Edit is one edit of one key.
type Edit struct {
	Time  time.Time `json:"time"`
	Actor string    `json:"actor"` // who made it: see [keystore.Actor]

	// DatabaseUser is the user that the edit was made as, in a database that has users. The
	// database knows it, while the client sets the actor.
	DatabaseUser string `json:"databaseUser,omitempty"`

	KeyID  string `json:"keyId"`
	Action Action `json:"action"`

	// Changes are the fields that the edit changed, in the order of a key file. They are not
	// recorded for keys that were added or deleted with more than [Detailed] at once.
	Changes []FieldChange `json:"changes,omitempty"`
}

// A FieldChange is what an edit did to one field.
type FieldChange struct {
	Field string `json:"field"` // as a key file names it

	// Before and After are the values as JSON; nil if the key did not have the field. Those of
	// hash are never recorded, nor is the hash in previous.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`

	// Partial says that the values are too long to be recorded: of a list, Before and After are
	// the entries that were removed and added; of anything else, they are nil.
	Partial bool `json:"partial,omitempty"`
}

// Detailed is the largest number of keys added or deleted at once of which the trail has the fields.
// An import of a million keys would otherwise take as much room again as the keys; what it wrote is
// in its file, and in the next edit of each key.
const Detailed = 100

// MaxHistory is the largest number of edits that History returns.
const MaxHistory = 10_000

// A Trail is the record of the edits of a store.
type Trail interface {
	// History returns the last edits of a key, newest first, at most limit and [MaxHistory]. A
	// key that was deleted keeps its history. For an id that is not known it returns none.
	History(ctx context.Context, keyID string, limit int) ([]Edit, error)
}

// An Editor edits keys, and records who did it.
type Editor interface {
	keystore.Editor
	Trail
}

// New returns the record of an edit by the actor of ctx that took a key from before to after. For a
// new key, before is nil; for a deleted one, after is nil. The edit has no changes if the keys are equal.
func New(ctx context.Context, before, after *keystore.Key, now time.Time) Edit {
	e := Edit{Time: now.UTC().Truncate(time.Microsecond), Actor: keystore.Actor(ctx), Action: Change, Changes: Diff(before, after)}
	if before != nil {
		e.KeyID = before.ID
	} else {
		e.Action = Add
	}
	if after != nil {
		e.KeyID = after.ID
	} else {
		e.Action = Delete
	}
	return e
}

// Who returns who made the edit, for people. In a database it also names the database's user, if
// that is another.
func (e Edit) Who() string {
	who := e.Actor
	if who == "" {
		who = "unknown"
	}
	if e.DatabaseUser != "" && e.DatabaseUser != e.Actor {
		who += " (" + e.DatabaseUser + ")"
	}
	return printable(who)
}

// printable replaces the characters that move or hide other text, because edits in SQL may contain them.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// Text returns the change as one line for people, such as "ip_whitelist: added 192.0.2.7".
func (c FieldChange) Text() string { return printable(c.text()) }

func (c FieldChange) text() string {
	before, after := valueText(c.Before), valueText(c.After)
	added, removed := missing(c.After, c.Before), missing(c.Before, c.After)
	switch {
	case c.Before == nil && c.After == nil:
		return c.Field + ": changed"
	case (c.Before != nil && c.After != nil || c.Partial) && len(added)+len(removed) > 0:
		var parts []string
		if len(removed) > 0 {
			parts = append(parts, "removed "+strings.Join(removed, ", "))
		}
		if len(added) > 0 {
			parts = append(parts, "added "+strings.Join(added, ", "))
		}
		return c.Field + ": " + strings.Join(parts, "; ")
	case c.Before == nil:
		return c.Field + ": " + after
	case c.After == nil:
		return c.Field + ": " + before + " → none"
	}
	return c.Field + ": " + before + " → " + after
}

// valueText returns a JSON value as a key file would have it.
func valueText(value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	if entries := list(value); entries != nil {
		return strings.Join(entries, ", ")
	}
	return string(value)
}

// list returns the entries of a list of strings, or nil.
func list(value json.RawMessage) []string {
	var entries []string
	if json.Unmarshal(value, &entries) != nil {
		return nil
	}
	return entries
}

// missing returns the entries of list a that are not in list b, which may be none.
func missing(a, b json.RawMessage) []string {
	in := make(map[string]bool)
	for _, e := range list(b) {
		in[e] = true
	}
	var only []string
	for _, e := range list(a) {
		if !in[e] {
			only = append(only, e)
		}
	}
	return only
}
