package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"extauthz/keystore"
)

// A Record is an entry of the trail in a file or a stream: one edit of one key, or the same edit, without its
// changes, of many.
type Record struct {
	Edit
	KeyIDs []string `json:"keyIds,omitempty"` // in place of KeyID
}

// recordJSON is a Record with keyId or keyIds, not both. keyIds are last, so that a script can write them.
type recordJSON struct {
	Time    time.Time     `json:"time"`
	Actor   string        `json:"actor"`
	KeyID   string        `json:"keyId,omitempty"`
	Action  Action        `json:"action"`
	Changes []FieldChange `json:"changes,omitempty"`
	KeyIDs  []string      `json:"keyIds,omitempty"`
}

// Line returns the record as one line of JSON, without its end.
func (r Record) Line() ([]byte, error) {
	return encode(recordJSON{r.Time, r.Actor, r.KeyID, r.Action, r.Changes, r.KeyIDs})
}

// Lines returns the lines of a file, with their ends, for an edit that changes the keys in after, by
// their ids: a key that is not in before is added, and one that is nil in after is deleted.
func Lines(ctx context.Context, before, after map[string]*keystore.Key) ([]byte, error) {
	now, ids := time.Now(), slices.Sorted(maps.Keys(after))
	added := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return before[id] != nil })
	bulk := len(added) > Detailed
	var records []Record
	for _, id := range ids {
		if bulk && before[id] == nil {
			continue
		}
		if edit := New(ctx, before[id], after[id], now); edit.Action != Change || len(edit.Changes) > 0 {
			records = append(records, Record{Edit: edit})
		}
	}
	if bulk {
		records = append(records, Bulk(New(ctx, nil, after[added[0]], now), added)...)
	}
	var lines []byte
	for _, r := range records {
		line, err := r.Line()
		if err != nil {
			return nil, fmt.Errorf("the audit record of %s: %w", r.KeyID, err)
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}

// Of returns the record's edit of a key.
func (r Record) Of(keyID string) (Edit, bool) {
	e := r.Edit
	if e.KeyID == "" && slices.Contains(r.KeyIDs, keyID) {
		e.KeyID = keyID
	}
	return e, e.KeyID == keyID && keyID != ""
}

// Find returns the edit of a key in a line, if there is one. There is none in a line that cannot be read,
// such as one that was cut by a crash.
func Find(line []byte, keyID string) (Edit, bool) {
	if !bytes.Contains(line, []byte(`"`+keyID+`"`)) { // an id needs no escapes
		return Edit{}, false
	}
	var r Record
	if json.Unmarshal(line, &r) != nil {
		return Edit{}, false
	}
	return r.Of(keyID)
}

// Bulk returns records of the same edit of many keys, each of at most [Detailed] of them.
func Bulk(e Edit, ids []string) []Record {
	e.KeyID, e.Changes = "", nil
	var records []Record
	for chunk := range slices.Chunk(ids, Detailed) {
		records = append(records, Record{Edit: e, KeyIDs: chunk})
	}
	return records
}

// encode is [json.Marshal] without HTML escapes, which are of no use in a log.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
