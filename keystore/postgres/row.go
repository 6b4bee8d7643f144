package postgres

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"extauthz/keystore"
)

const (
	columnList = `id, name, hash, previous_hash, previous_until, ip_whitelist, ip_whitelist_mode, enabled, expires, external_id, permissions, roles, ratelimits, meta`
	selectKeys = `SELECT ` + columnList + ` FROM extauthz.keys`
	lookupKeys = selectKeys + ` WHERE hash = $1 OR previous_hash = $1`
)

// values returns the key's columns, in the order of columnList. Fields that are not set are NULL, so
// that equal keys are equal rows.
func values(k *keystore.Key) ([]any, error) {
	var limits []byte
	if len(k.Ratelimits) > 0 {
		var err error
		if limits, err = keystore.EncodeRatelimits(k.Ratelimits); err != nil {
			return nil, err
		}
	}
	var previous []byte
	if k.Previous.Hash != (keystore.Hash{}) {
		previous = k.Previous.Hash[:]
	}
	var mode *string
	if k.WhitelistMode != keystore.Enforce {
		mode = new(k.WhitelistMode.String())
	}
	meta := []byte(k.Meta)
	if len(meta) == 0 || string(meta) == "null" {
		meta = nil
	}
	return []any{
		k.ID, orNull(k.Name), k.Hash[:], previous, timeOrNull(k.Previous.Until), k.Whitelist.Prefixes(), mode, k.Enabled, timeOrNull(k.Expires), orNull(k.ExternalID),
		listOrNull(k.Permissions), listOrNull(k.Roles), limits, meta,
	}, nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func listOrNull(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// collect reads all rows of a query for columnList. Its parameters are the results of Query.
func collect(rows pgx.Rows, err error) ([]*keystore.Key, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []*keystore.Key
	for rows.Next() {
		keys = append(keys, decode(rows))
	}
	return keys, rows.Err()
}

// one is collect for a query of at most one row.
func one(rows pgx.Rows, err error) (*keystore.Key, error) {
	keys, err := collect(rows, err)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, keystore.ErrNotFound
	}
	return keys[0], nil
}

// decode reads the current row, column by column, so that an invalid column does not affect the
// others. An invalid row becomes a Broken key.
func decode(rows pgx.Rows) *keystore.Key {
	r := reader{rows: rows}
	k := &keystore.Key{
		ID:        r.text("id"),
		Name:      r.text("name"),
		Hash:      r.hash("hash"),
		Previous:  r.previous(),
		Whitelist: r.whitelist(),

		WhitelistMode: r.mode(),

		Enabled:     read[bool](&r, "enabled"),
		Expires:     r.time("expires", "a key that never expires"),
		ExternalID:  r.text("external_id"),
		Permissions: r.list("permissions"),
		Roles:       r.list("roles"),
		Ratelimits:  r.ratelimits(),
		Meta:        read[[]byte](&r, "meta"),
	}
	err := errors.Join(r.errs...)
	if err == nil {
		err = k.Validate()
	}
	if err != nil {
		k.Break(err)
	}
	return k
}

// A reader reads the columns of one row from left to right and collects the errors.
type reader struct {
	rows pgx.Rows
	next int
	errs []error
}

func (r *reader) wrong(column string, err error) {
	r.errs = append(r.errs, fmt.Errorf("%s: %w", column, err))
}

// read returns the next column, or the zero value if it cannot be read.
func read[T any](r *reader, column string) T {
	var v T
	i := r.next
	r.next++
	field := r.rows.FieldDescriptions()[i]
	if err := r.rows.Conn().TypeMap().Scan(field.DataTypeOID, field.Format, r.rows.RawValues()[i], &v); err != nil {
		r.wrong(column, err)
		return *new(T)
	}
	return v
}

func (r *reader) text(column string) string {
	if s := read[*string](r, column); s != nil {
		return *s
	}
	return ""
}

func (r *reader) hash(column string) keystore.Hash {
	b := read[[]byte](r, column)
	if len(b) != len(keystore.Hash{}) {
		r.wrong(column, fmt.Errorf("%d bytes long: write the 32 bytes of the secret's SHA-256", len(b)))
		return keystore.Hash{}
	}
	return keystore.Hash(b)
}

func (r *reader) previous() keystore.PreviousSecret {
	var p keystore.PreviousSecret
	if r.rows.RawValues()[r.next] != nil {
		p.Hash = r.hash("previous_hash")
	} else {
		r.next++
	}
	p.Until = r.time("previous_until", "a key without a previous secret")
	return p // Validate checks that both are set, or neither
}

func (r *reader) mode() keystore.WhitelistMode {
	s := read[*string](r, "ip_whitelist_mode")
	if s == nil {
		return keystore.Enforce
	}
	mode, err := keystore.ParseWhitelistMode(*s)
	if err != nil {
		r.wrong("ip_whitelist_mode", err)
	}
	return mode
}

func (r *reader) whitelist() keystore.Whitelist {
	if r.rows.RawValues()[r.next] == nil {
		r.next++
		return keystore.Anywhere()
	}
	// Validate refuses an empty list.
	prefixes := read[[]netip.Prefix](r, "ip_whitelist")
	for i, p := range prefixes {
		if !p.IsValid() {
			r.wrong("ip_whitelist", errors.New("NULL stands for an entry: write an address or a CIDR range"))
			return keystore.Whitelist{}
		}
		if p.Addr().Is4In6() {
			var err error
			if prefixes[i], err = keystore.ParseWhitelistEntry(p.String()); err != nil {
				r.wrong("ip_whitelist", err)
				return keystore.Whitelist{}
			}
		}
	}
	return keystore.NewWhitelist(prefixes)
}

// time returns the column's time, or the zero Time for NULL, which stands for what meansNull says.
func (r *reader) time(column, meansNull string) time.Time {
	t := read[pgtype.Timestamptz](r, column)
	switch {
	case !t.Valid: // NULL
	case t.InfinityModifier != pgtype.Finite:
		r.wrong(column, fmt.Errorf("%s: write a time, or NULL for %s", t.InfinityModifier, meansNull))
	case t.Time.IsZero():
		r.wrong(column, fmt.Errorf("the first moment of year 1, which stands for none: write a later one, or NULL for %s", meansNull))
	}
	return t.Time.UTC()
}

func (r *reader) list(column string) []string {
	var list []string
	for _, s := range read[[]*string](r, column) {
		if s == nil {
			r.wrong(column, errors.New("NULL stands for an entry: write a name"))
			return nil
		}
		list = append(list, *s)
	}
	return list
}

func (r *reader) ratelimits() []keystore.Ratelimit {
	raw := read[[]byte](r, "ratelimits")
	if raw == nil {
		return nil
	}
	limits, err := keystore.DecodeRatelimits(raw)
	if err != nil {
		r.wrong("ratelimits", err)
	}
	return limits
}
