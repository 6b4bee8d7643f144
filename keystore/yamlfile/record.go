package yamlfile

import (
	"errors"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A position is the place of one field in a text.
type position struct{ line, column int32 }

// A record is a key and where its id and its hash are written.
type record struct {
	key          *keystore.Key
	idAt, hashAt position
}

// A reader turns the items of a key file into records.
type reader struct {
	d       *strictyaml.Decoder
	now     time.Time
	records []record

	fields, limitFields strictyaml.Fields
	shared              map[shared]any // what was read of nodes that aliases refer to
	aliasBudget         int            // how many bytes aliases may still add to meta fields

	// Of the key that is being read:
	record  record
	limit   *keystore.Ratelimit
	limitAt map[string]*yaml.Node
}

// newReader returns a reader of a text of this many bytes.
func newReader(d *strictyaml.Decoder, size int) *reader {
	r := &reader{
		d: d, now: time.Now(),
		shared: make(map[shared]any), aliasBudget: 64<<10 + 16*size,
	}
	r.fields = strictyaml.Fields{
		"id":           r.readID,
		"name":         r.text(func(k *keystore.Key) *string { return &k.Name }, "name", keystore.ValidateName),
		"hash":         r.readHash,
		"ip_whitelist": r.readWhitelist,
		"enabled":      func(n *yaml.Node) { r.record.key.Enabled = d.Bool(n) },
		"expires":      r.readExpires,
		"external_id":  r.text(func(k *keystore.Key) *string { return &k.ExternalID }, "external_id", keystore.ValidateExternalID),
		"permissions":  func(n *yaml.Node) { r.record.key.Permissions = r.names("permissions", n) },
		"roles":        func(n *yaml.Node) { r.record.key.Roles = r.names("roles", n) },
		"ratelimits":   r.readRatelimits,
		"meta":         r.readMeta,
	}
	r.limitFields = strictyaml.Fields{
		"name":       r.limitField("name", func(n *yaml.Node) { r.limit.Name = d.String(n) }),
		"limit":      r.limitField("limit", func(n *yaml.Node) { r.limit.Limit = d.Int(n) }),
		"duration":   r.limitField("duration", func(n *yaml.Node) { r.limit.Duration = d.Duration(n) }),
		"auto_apply": func(n *yaml.Node) { r.limit.OnDemand = !d.Bool(n) },
	}
	return r
}

// items reads a list of keys.
func (r *reader) items(n *yaml.Node) { r.d.Sequence(n, r.item) }

func (r *reader) item(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		r.d.Errorf(n, "an alias would be the same key a second time: write the key out")
		return
	}
	k := &keystore.Key{Enabled: true, Whitelist: keystore.Anywhere()}
	r.record = record{key: k}
	if !r.d.Mapping(n, r.fields) {
		return
	}
	if r.record.idAt == (position{}) {
		r.d.Errorf(n, noID)
	}
	if r.record.hashAt == (position{}) {
		r.d.Errorf(n, noHash)
	}
	r.records = append(r.records, r.record)
}

const (
	noID   = "a key without an id: write one such as `id: key_acme_prod`"
	noHash = "a key without a hash: write the SHA-256 of its secret, as `extauthz key hash` prints it"
)

func at(n *yaml.Node) position {
	return position{int32(n.Line), int32(n.Column)} //nolint:gosec // a file has fewer lines, and they are shorter
}

func (r *reader) readID(n *yaml.Node) {
	r.record.idAt = at(n)
	if strictyaml.Resolve(n).Tag == "!!null" {
		r.d.Errorf(n, noID)
		return
	}
	errs := len(r.d.Errors)
	r.record.key.ID = r.d.String(n)
	if err := keystore.ValidateID(r.record.key.ID); err != nil && len(r.d.Errors) == errs {
		r.d.Errorf(n, "id: %v", err)
	}
}

func (r *reader) readHash(n *yaml.Node) {
	r.record.hashAt = at(n)
	if strictyaml.Resolve(n).Tag == "!!null" {
		r.d.Errorf(n, noHash)
		return
	}
	errs := len(r.d.Errors)
	text := r.d.Plain(n)
	if len(r.d.Errors) > errs {
		return
	}
	h, err := keystore.ParseHash(text)
	if err != nil {
		r.d.Errorf(n, "%v", err)
	}
	r.record.key.Hash = h
}

// text returns what reads a field of text into the place that field tells.
func (r *reader) text(field func(*keystore.Key) *string, name string, validate func(string) error) func(*yaml.Node) {
	return func(n *yaml.Node) {
		s := r.d.String(n)
		*field(r.record.key) = s
		if err := validate(s); err != nil {
			r.d.Errorf(n, "%s: %v", name, err)
		}
	}
}

func (r *reader) readExpires(n *yaml.Node) {
	errs := len(r.d.Errors)
	t := r.d.Time(n).UTC()
	r.record.key.Expires = t
	switch {
	case len(r.d.Errors) > errs:
	case t.IsZero():
		r.d.Errorf(n, "expires: the first moment of year 1 stands for none: write a later one, or leave the field out for a key that never expires")
	case t.Before(r.now):
		r.d.Warnf(n, "this key has expired already")
	}
}

func (r *reader) names(field string, n *yaml.Node) []string {
	return once(r, field, n, func() (names []string) {
		r.d.Sequence(n, func(item *yaml.Node) {
			errs := len(r.d.Errors)
			name := r.d.String(item)
			if err := keystore.ValidatePermission(name); err != nil && len(r.d.Errors) == errs {
				r.d.Errorf(item, "%s: %v", field, err)
			}
			names = append(names, name)
		})
		return names
	})
}

func (r *reader) readRatelimits(n *yaml.Node) {
	r.record.key.Ratelimits = once(r, "ratelimits", n, func() (limits []keystore.Ratelimit) {
		r.d.Sequence(n, func(item *yaml.Node) {
			limits = append(limits, r.ratelimit(item, limits))
		})
		return limits
	})
}

func (r *reader) limitField(name string, read func(*yaml.Node)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		r.limitAt[name] = n
		read(n)
	}
}

// ratelimit reads one rate limit, which stands after the others.
func (r *reader) ratelimit(n *yaml.Node, others []keystore.Ratelimit) keystore.Ratelimit {
	var l keystore.Ratelimit
	r.limit, r.limitAt = &l, make(map[string]*yaml.Node)
	errs := len(r.d.Errors)
	if !r.d.Mapping(n, r.limitFields) || len(r.d.Errors) > errs {
		return l
	}
	for _, name := range []string{"name", "limit", "duration"} {
		if r.limitAt[name] == nil {
			r.d.Errorf(n, "a rate limit without %s: write it as {name: requests, limit: 100, duration: 1m}", name)
		}
	}
	for _, err := range unjoin(keystore.ValidateRatelimits([]keystore.Ratelimit{l})) {
		field, _, _ := strings.Cut(err.Error(), ":")
		if place := r.limitAt[field]; place != nil {
			r.d.Errorf(place, "%v", err)
		}
	}
	for _, o := range others {
		if o.Name == l.Name && l.Name != "" {
			r.d.Errorf(r.limitAt["name"], "name: %q stands twice: give each limit a name of its own", l.Name)
			break
		}
	}
	return l
}

func unjoin(err error) []error {
	if joined, ok := errors.AsType[interface {
		error
		Unwrap() []error
	}](err); ok {
		return joined.Unwrap()
	}
	return nil
}

type shared struct {
	node  *yaml.Node
	field string
}

// once returns what read makes of the field's value n. Where aliases may refer to n, it is
// read only once, so that many keys may share one long list.
func once[T any](r *reader, field string, n *yaml.Node, read func() T) T {
	target := strictyaml.Resolve(n)
	if target.Anchor == "" {
		return read()
	}
	key := shared{target, field}
	if v, ok := r.shared[key]; ok {
		return v.(T)
	}
	v := read()
	r.shared[key] = v
	return v
}
