package keystore

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// These values of a record have a special form in JSON. For all but the whitelist, encoding/json treats
// a null as absent, so that it must be refused before.
type (
	hashJSON      Hash
	whitelistJSON []netip.Prefix
	whitelistMode WhitelistMode
	timeJSON      time.Time
	durationJSON  time.Duration
)

func (h hashJSON) MarshalText() ([]byte, error) { return []byte(Hash(h).String()), nil }

func (h *hashJSON) UnmarshalText(text []byte) error {
	parsed, err := ParseHash(string(text))
	*h = hashJSON(parsed)
	return err
}

func (w whitelistJSON) MarshalJSON() ([]byte, error) {
	entries := make([]string, len(w))
	for i, p := range w {
		entries[i] = FormatWhitelistEntry(p)
	}
	return json.Marshal(entries)
}

func (w *whitelistJSON) UnmarshalJSON(data []byte) error {
	var entries []string // a null becomes "", which is refused below
	if err := decodeValue(data, &entries); err != nil {
		return err
	}
	*w = make(whitelistJSON, len(entries))
	var errs []error
	for i, e := range entries {
		p, err := ParseWhitelistEntry(e)
		(*w)[i], errs = p, append(errs, err)
	}
	return errors.Join(errs...)
}

func (m whitelistMode) MarshalText() ([]byte, error) { return []byte(WhitelistMode(m).String()), nil }

func (m *whitelistMode) UnmarshalText(text []byte) error {
	mode, err := ParseWhitelistMode(string(text))
	*m = whitelistMode(mode)
	return err
}

func (t timeJSON) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, time.RFC3339Nano), nil
}

func (t *timeJSON) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(time.RFC3339, string(text))
	if err != nil || parsed.IsZero() {
		return fmt.Errorf("%q is not a time: write one such as 2027-01-31T00:00:00Z", text)
	}
	*t = timeJSON(parsed.UTC())
	return nil
}

func (d durationJSON) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *durationJSON) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration: write one such as 1m or 24h", text)
	}
	*d = durationJSON(parsed)
	return nil
}
