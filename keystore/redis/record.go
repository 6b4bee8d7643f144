package redis

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"extauthz/keystore"
)

// A record is a key as it is written: one JSON object whose fields are those of the key file.
// The hash is the name that the record is stored under, so it is not in it.
type record struct {
	ID          string          `json:"id"`
	Name        string          `json:"name,omitempty"`
	Whitelist   []string        `json:"ip_whitelist,omitempty"`
	Enabled     bool            `json:"enabled"`
	Expires     *time.Time      `json:"expires,omitempty"`
	ExternalID  string          `json:"external_id,omitempty"`
	Permissions []string        `json:"permissions,omitempty"`
	Roles       []string        `json:"roles,omitempty"`
	Ratelimits  []ratelimit     `json:"ratelimits,omitempty"`
	Meta        json.RawMessage `json:"meta,omitempty"`
}

type ratelimit struct {
	Name      string `json:"name"`
	Limit     int64  `json:"limit"`
	Duration  string `json:"duration"`
	AutoApply bool   `json:"auto_apply"`
}

// encode returns the record of a key, the same bytes for equal keys; or what is wrong with
// the key.
func encode(k *keystore.Key) (string, error) {
	if err := k.Validate(); err != nil {
		return "", fmt.Errorf("key %s: %w", k.ID, err)
	}
	r := record{
		ID: k.ID, Name: k.Name, Enabled: k.Enabled, ExternalID: k.ExternalID,
		Permissions: k.Permissions, Roles: k.Roles, Meta: k.Meta,
	}
	for _, p := range k.Whitelist.Prefixes() {
		r.Whitelist = append(r.Whitelist, keystore.FormatWhitelistEntry(p))
	}
	if !k.Expires.IsZero() {
		utc := k.Expires.UTC()
		r.Expires = &utc
	}
	for _, l := range k.Ratelimits {
		r.Ratelimits = append(r.Ratelimits, ratelimit{l.Name, l.Limit, l.Duration.String(), !l.OnDemand})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return "", fmt.Errorf("key %s: %w", k.ID, err)
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// fields is everything that a record may hold. What is not in it breaks the record: a field
// that is spelt wrong must not read as one that was left out.
var fields = map[string]func(*keystore.Key, []byte) error{
	"id":           func(k *keystore.Key, v []byte) error { return json.Unmarshal(v, &k.ID) },
	"name":         func(k *keystore.Key, v []byte) error { return json.Unmarshal(v, &k.Name) },
	"hash":         checkHash,
	"ip_whitelist": readWhitelist,
	"enabled":      func(k *keystore.Key, v []byte) error { return json.Unmarshal(v, &k.Enabled) },
	"expires":      readExpires,
	"external_id":  func(k *keystore.Key, v []byte) error { return json.Unmarshal(v, &k.ExternalID) },
	"permissions":  func(k *keystore.Key, v []byte) error { return json.Unmarshal(v, &k.Permissions) },
	"roles":        func(k *keystore.Key, v []byte) error { return json.Unmarshal(v, &k.Roles) },
	"ratelimits":   readRatelimits,
	"meta":         readMeta,
}

// decode reads the record that is stored under h. It always returns a key: one that is Broken,
// with an empty whitelist, where the record is not sound in every part.
func decode(h keystore.Hash, data []byte) *keystore.Key {
	k := &keystore.Key{Hash: h, Whitelist: keystore.Anywhere(), Enabled: true}
	err := object(data, func(name string, value []byte) error {
		read, ok := fields[name]
		if !ok {
			return fmt.Errorf("%q is not a field of a key", name)
		}
		if err := read(k, value); err != nil {
			return fmt.Errorf("%s: %w", name, plain(err))
		}
		return nil
	})
	if err == nil {
		err = k.Validate()
	}
	if err != nil {
		return breakKey(k, err)
	}
	return k
}

// breakKey makes k a key that refuses, and that can be told apart even without its id.
func breakKey(k *keystore.Key, err error) *keystore.Key {
	if keystore.ValidateID(k.ID) != nil {
		k.ID = "sha256:" + k.Hash.String()[:16]
	}
	k.Whitelist, k.Broken = keystore.Whitelist{}, err
	return k
}

// object calls field for each field of the one JSON object in data, and joins its errors with
// those of the object itself. A name that stands twice and a null are errors: what they mean
// differs from reader to reader.
func object(data []byte, field func(name string, value []byte) error) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	var errs []error
	var seen []string
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
		switch {
		case slices.Contains(seen, name):
			err = fmt.Errorf("%q stands twice", name)
		case string(value) == "null":
			err = fmt.Errorf("%q is null: leave it out", name)
		default:
			err = field(name, value)
		}
		seen = append(seen, name)
		if err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := d.Token(); err != nil {
		errs = append(errs, errors.New("not JSON: the object does not end"))
	} else if _, err := d.Token(); !errors.Is(err, io.EOF) {
		errs = append(errs, errors.New("something stands after the JSON object"))
	}
	return errors.Join(errs...)
}

// plain says what kind of JSON was met in words that do not speak of Go.
func plain(err error) error {
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("a %s does not fit here", e.Value)
	}
	return err
}

func checkHash(k *keystore.Key, v []byte) error {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return err
	}
	h, err := keystore.ParseHash(s)
	if err == nil && h != k.Hash {
		err = errors.New("not the one that the record is stored under: leave it out, or store the record under it")
	}
	return err
}

func readWhitelist(k *keystore.Key, v []byte) error {
	var entries []string
	if err := json.Unmarshal(v, &entries); err != nil {
		return err
	}
	prefixes := make([]netip.Prefix, 0, len(entries))
	var errs []error
	for _, e := range entries {
		p, err := keystore.ParseWhitelistEntry(e)
		prefixes, errs = append(prefixes, p), append(errs, err)
	}
	k.Whitelist = keystore.NewWhitelist(prefixes)
	return errors.Join(errs...)
}

func readExpires(k *keystore.Key, v []byte) error {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return err
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return fmt.Errorf("%q is not a time: write one such as 2027-01-31T00:00:00Z", s)
	}
	k.Expires = t.UTC()
	return nil
}

func readRatelimits(k *keystore.Key, v []byte) error {
	var limits []json.RawMessage
	if err := json.Unmarshal(v, &limits); err != nil {
		return err
	}
	var errs []error
	for _, l := range limits {
		var r keystore.Ratelimit
		errs = append(errs, object(l, func(name string, value []byte) error {
			return readRatelimit(&r, name, value)
		}))
		k.Ratelimits = append(k.Ratelimits, r)
	}
	return errors.Join(errs...)
}

func readRatelimit(r *keystore.Ratelimit, name string, value []byte) (err error) {
	switch name {
	case "name":
		err = json.Unmarshal(value, &r.Name)
	case "limit":
		err = json.Unmarshal(value, &r.Limit)
	case "duration":
		var s string
		if err = json.Unmarshal(value, &s); err == nil {
			if r.Duration, err = time.ParseDuration(s); err != nil {
				err = fmt.Errorf("%q is not a duration: write one such as 1m", s)
			}
		}
	case "auto_apply":
		var auto bool
		err = json.Unmarshal(value, &auto)
		r.OnDemand = !auto
	default:
		return fmt.Errorf("%q is not a field of a rate limit", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, plain(err))
	}
	return nil
}

func readMeta(k *keystore.Key, v []byte) error {
	var b bytes.Buffer
	if err := json.Compact(&b, v); err != nil {
		return err
	}
	k.Meta = b.Bytes()
	return nil
}
