package keystore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
)

// A recordJSON is a key as JSON, with the field names of a key file. A new field takes a line here, one
// in EncodeKey and one in recordJSON.key.
type recordJSON struct {
	ID            string          `json:"id"`
	Name          string          `json:"name,omitempty"`
	Hash          *hashJSON       `json:"hash,omitempty"` // decoded, but not encoded
	Enabled       bool            `json:"enabled"`
	Expires       *timeJSON       `json:"expires,omitempty"`
	Whitelist     whitelistJSON   `json:"ip_whitelist,omitempty"`
	WhitelistMode whitelistMode   `json:"ip_whitelist_mode,omitempty"`
	Previous      *previousJSON   `json:"previous,omitempty"`
	ExternalID    string          `json:"external_id,omitempty"`
	Permissions   []string        `json:"permissions,omitempty"`
	Roles         []string        `json:"roles,omitempty"`
	Ratelimits    []ratelimitJSON `json:"ratelimits,omitempty"`
	Meta          json.RawMessage `json:"meta,omitempty"`
}

type previousJSON struct {
	Hash  *hashJSON `json:"hash,omitempty"`
	Until timeJSON  `json:"until"`
}

type ratelimitJSON struct {
	Name      string       `json:"name"`
	Limit     int64        `json:"limit"`
	Duration  durationJSON `json:"duration"`
	AutoApply bool         `json:"auto_apply"` // default: true
}

// EncodeKey returns the key as a JSON object, the same bytes for equal keys. It omits the key's hash,
// under which a store keeps the record, and the previous secret's hash if that is zero. For a Broken
// key it adds a field broken with the reason, which [DecodeKey] does not accept.
func EncodeKey(k *Key) ([]byte, error) {
	r := recordJSON{
		ID: k.ID, Name: k.Name, Whitelist: k.Whitelist.Prefixes(), WhitelistMode: whitelistMode(k.WhitelistMode), Enabled: k.Enabled,
		ExternalID: k.ExternalID, Permissions: k.Permissions, Roles: k.Roles, Ratelimits: ratelimitsJSON(k.Ratelimits), Meta: k.Meta,
	}
	if !k.Expires.IsZero() {
		r.Expires = new(timeJSON(k.Expires))
	}
	if p := k.Previous; p != (PreviousSecret{}) {
		r.Previous = &previousJSON{Until: timeJSON(p.Until)}
		if p.Hash != (Hash{}) {
			r.Previous.Hash = new(hashJSON(p.Hash))
		}
	}
	if k.Broken != nil {
		return encodeJSON(struct {
			recordJSON
			Broken string `json:"broken"`
		}{r, k.Broken.Error()})
	}
	return encodeJSON(r)
}

// DecodeKey parses a record that a store keeps under h, as [EncodeKey] returns it or as written by hand.
// Unknown and duplicate fields and nulls are errors, since one of them may be meant as a whitelist.
// DecodeKey always returns a key, which is Broken if any part of the record is invalid.
func DecodeKey(h Hash, data []byte) *Key {
	r := recordJSON{Enabled: true}
	err := decodeObject(data, &r, "a key")
	k := r.key()
	k.Hash = h
	if err == nil && r.Hash != nil && Hash(*r.Hash) != h {
		err = errors.New("hash: not the one that the record is stored under: omit it, or store the record under it")
	}
	if err == nil {
		err = k.Validate()
	}
	if err != nil {
		k.Break(err)
	}
	return k
}

// key returns the key without its hash.
func (r *recordJSON) key() *Key {
	k := &Key{
		ID: r.ID, Name: r.Name, Whitelist: Anywhere(), WhitelistMode: WhitelistMode(r.WhitelistMode), Enabled: r.Enabled,
		ExternalID: r.ExternalID, Permissions: r.Permissions, Roles: r.Roles, Ratelimits: ratelimits(r.Ratelimits),
	}
	if r.Whitelist != nil { // an empty one is left to Validate
		k.Whitelist = NewWhitelist(r.Whitelist)
	}
	if r.Expires != nil {
		k.Expires = time.Time(*r.Expires)
	}
	if p := r.Previous; p != nil {
		k.Previous.Until = time.Time(p.Until)
		if p.Hash != nil {
			k.Previous.Hash = Hash(*p.Hash)
		}
	}
	var meta bytes.Buffer
	if json.Compact(&meta, r.Meta) == nil && meta.Len() > 0 {
		k.Meta = meta.Bytes()
	}
	return k
}

// EncodeRatelimits returns rate limits as a JSON array, as in a key's record.
func EncodeRatelimits(limits []Ratelimit) ([]byte, error) { return encodeJSON(ratelimitsJSON(limits)) }

// DecodeRatelimits parses what [EncodeRatelimits] returns, as strictly as [DecodeKey].
func DecodeRatelimits(data []byte) ([]Ratelimit, error) {
	var list []ratelimitJSON
	err := decodeValue(data, &list)
	if err == nil && list == nil {
		err = errors.New("null")
	}
	if err != nil {
		return nil, fmt.Errorf(`%w: write a list such as [{"name": "requests", "limit": 100, "duration": "1m"}]`, err)
	}
	return ratelimits(list), nil
}

func ratelimitsJSON(limits []Ratelimit) []ratelimitJSON {
	var list []ratelimitJSON
	for _, l := range limits {
		list = append(list, ratelimitJSON{l.Name, l.Limit, durationJSON(l.Duration), !l.OnDemand})
	}
	return list
}

func ratelimits(list []ratelimitJSON) []Ratelimit {
	var limits []Ratelimit
	for _, l := range list {
		limits = append(limits, Ratelimit{l.Name, l.Limit, time.Duration(l.Duration), !l.AutoApply})
	}
	return limits
}

func (r *ratelimitJSON) UnmarshalJSON(data []byte) error {
	r.AutoApply = true
	return decodeObject(data, r, "a rate limit")
}

func (p *previousJSON) UnmarshalJSON(data []byte) error {
	err := decodeObject(data, p, "a previous secret")
	if err == nil && p.Hash == nil {
		err = errNoPreviousHash
	}
	return err
}

// encodeJSON is [json.Marshal] without HTML escapes.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decodeObject parses one JSON object into the struct that into points to, and joins all errors. They
// call the object what. Duplicate names and nulls are errors, since parsers differ in what they mean.
func decodeObject(data []byte, into any, what string) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	fields := fieldsByName(into)
	seen := make(map[string]bool)
	var errs []error
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return errors.Join(append(errs, errors.New("not JSON"))...)
		}
		name, _ := t.(string)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return errors.Join(append(errs, fmt.Errorf("%q: not JSON", name))...)
		}
		field, known := fields[name]
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("%q is not a field of %s", name, what))
		case seen[name]:
			errs = append(errs, fmt.Errorf("%q appears twice", name))
		case string(value) == "null":
			errs = append(errs, fmt.Errorf("%q is null: omit it", name))
		default:
			if err := decodeValue(value, field); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		seen[name] = true
	}
	if _, err := d.Token(); err != nil {
		errs = append(errs, errors.New("not JSON: the object does not end"))
	} else if _, err := d.Token(); !errors.Is(err, io.EOF) {
		errs = append(errs, errors.New("there is text after the JSON object"))
	}
	return errors.Join(errs...)
}

// fieldsByName returns pointers to the fields of a struct, by the names of their tags.
func fieldsByName(pointer any) map[string]any {
	v := reflect.ValueOf(pointer).Elem()
	fields := make(map[string]any, v.NumField())
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		fields[name] = v.Field(i).Addr().Interface()
	}
	return fields
}

// decodeValue is [json.Unmarshal] with errors that do not mention Go types.
func decodeValue(data []byte, into any) error {
	err := json.Unmarshal(data, into)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("a %s does not fit here", e.Value)
	}
	return err
}
