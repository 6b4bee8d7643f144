package yamlfile

import (
	"encoding/json"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

// A field is a field of a key in a key file.
type field struct {
	name   string
	read   func(*keyReader, *keystore.Key, *yaml.Node)
	format func(*keystore.Key) string // "" if the key does not have it
}

// fields are all fields of a key, in the order in which they are written.
var fields = []field{
	{"id", (*keyReader).id, func(k *keystore.Key) string { return strictyaml.Quote(k.ID) }},
	text("name", keystore.ValidateName, func(k *keystore.Key) *string { return &k.Name }),
	{"hash", (*keyReader).hash, func(k *keystore.Key) string { return formatHash(k.Hash) }},
	{"ip_whitelist", (*keyReader).whitelist, func(k *keystore.Key) string { return list(k.Whitelist.Prefixes(), formatEntry) }},
	{"ip_whitelist_mode", (*keyReader).mode, func(k *keystore.Key) string { return formatMode(k.WhitelistMode) }},
	{"previous", (*keyReader).previous, func(k *keystore.Key) string { return formatPrevious(k.Previous) }},
	{"enabled", (*keyReader).enabled, func(k *keystore.Key) string { return map[bool]string{false: "false"}[k.Enabled] }},
	{"expires", (*keyReader).expires, func(k *keystore.Key) string { return formatTime(k.Expires) }},
	text("external_id", keystore.ValidateExternalID, func(k *keystore.Key) *string { return &k.ExternalID }),
	names("permissions", func(k *keystore.Key) *[]string { return &k.Permissions }),
	names("roles", func(k *keystore.Key) *[]string { return &k.Roles }),
	{"ratelimits", (*keyReader).ratelimits, func(k *keystore.Key) string { return list(k.Ratelimits, formatRatelimit) }},
	{"meta", (*keyReader).meta, func(k *keystore.Key) string { return formatMeta(k.Meta) }},
}

// text returns a field of text.
func text(name string, validate func(string) error, of func(*keystore.Key) *string) field {
	return field{
		name,
		func(r *keyReader, k *keystore.Key, n *yaml.Node) { *of(k) = r.text(name, n, validate) },
		func(k *keystore.Key) string {
			if *of(k) == "" {
				return ""
			}
			return strictyaml.Quote(*of(k))
		},
	}
}

// names returns a field that is a list of permissions or roles.
func names(name string, of func(*keystore.Key) *[]string) field {
	return field{
		name,
		func(r *keyReader, k *keystore.Key, n *yaml.Node) {
			*of(k) = once(r, name, n, func() (names []string) {
				r.Sequence(n, func(entry *yaml.Node) {
					names = append(names, r.text(name, entry, keystore.ValidatePermission))
				})
				return names
			})
		},
		func(k *keystore.Key) string { return list(*of(k), strictyaml.Quote) },
	}
}

// A keyReader reads keys from YAML nodes.
type keyReader struct {
	strictyaml.Decoder
	now     time.Time
	records []record

	record record // the one that is being read

	previousNode *yaml.Node // of the record, if it has a previous secret
	fields       strictyaml.Fields
	shared       map[sharedValue]any // what was read of nodes with an anchor
	aliasBudget  int                 // how many bytes aliases may still add to meta fields
}

// newKeyReader returns a reader of a text of this size in bytes.
func newKeyReader(size int) *keyReader {
	r := &keyReader{
		now: time.Now(), fields: make(strictyaml.Fields),
		shared: make(map[sharedValue]any), aliasBudget: 64<<10 + 16*size,
	}
	r.WhenEmpty = "write `keys: []` if no key may be used"
	for _, f := range fields {
		r.fields[f.name] = func(n *yaml.Node) { f.read(r, r.record.key, n) }
	}
	return r
}

// root reads a key file.
func (r *keyReader) root(n *yaml.Node) {
	found := false
	ok := r.Mapping(n, strictyaml.Fields{"keys": func(n *yaml.Node) {
		found = true
		if n.Tag == "!!null" {
			r.Errorf(n, "nothing where the list of keys is expected: write `keys: []` if no key may be used")
			return
		}
		r.Sequence(n, r.key)
	}})
	if ok && !found {
		r.Errorf(n, "no field keys: write `keys:` and a `- id: …` entry for each key below it")
	}
}

func (r *keyReader) key(n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		r.Errorf(n, "an alias would be the same key a second time: write the key out")
		return
	}
	r.record = record{key: &keystore.Key{Enabled: true, Whitelist: keystore.Anywhere()}}
	if !r.Mapping(n, r.fields) {
		return
	}
	if r.record.idAt == (position{}) {
		r.Errorf(n, noID)
	}
	if r.record.hashAt == (position{}) {
		r.Errorf(n, noHash)
	}
	r.checkPrevious()
	r.records = append(r.records, r.record)
}

const (
	noID   = "a key without an id: write one such as `id: key_acme_prod`"
	noHash = "a key without a hash: write the SHA-256 of its secret, as `extauthz key hash` prints it"
)

// begin records the place of a required field, and reports whether it has a value.
func (r *keyReader) begin(at *position, n *yaml.Node, missing string) bool {
	*at = position{int32(n.Line), int32(n.Column)} //nolint:gosec // a file has fewer lines, and they are shorter
	if strictyaml.Resolve(n).Tag == "!!null" {
		r.Errorf(n, "%s", missing)
		return false
	}
	return true
}

func (r *keyReader) id(k *keystore.Key, n *yaml.Node) {
	if r.begin(&r.record.idAt, n, noID) {
		k.ID = r.text("id", n, keystore.ValidateID)
	}
}

func (r *keyReader) hash(k *keystore.Key, n *yaml.Node) {
	k.Hash = r.parseHash(&r.record.hashAt, n, noHash)
}

// parseHash reads a hash and sets its position. missing is the error if there is no value.
func (r *keyReader) parseHash(at *position, n *yaml.Node, missing string) keystore.Hash {
	if !r.begin(at, n, missing) {
		return keystore.Hash{}
	}
	errs := len(r.Errors)
	text := r.Plain(n)
	if len(r.Errors) > errs {
		return keystore.Hash{}
	}
	h, err := keystore.ParseHash(text)
	if err != nil {
		r.Errorf(n, "%v", err)
	}
	return h
}

// text reads the text of a field.
func (r *keyReader) text(field string, n *yaml.Node, validate func(string) error) string {
	errs := len(r.Errors)
	s := r.String(n)
	if err := validate(s); err != nil && len(r.Errors) == errs {
		r.Errorf(n, "%s: %v", field, err)
	}
	return s
}

func (r *keyReader) enabled(k *keystore.Key, n *yaml.Node) { k.Enabled = r.Bool(n) }

func (r *keyReader) expires(k *keystore.Key, n *yaml.Node) {
	errs := len(r.Errors)
	k.Expires = r.Time(n).UTC()
	switch {
	case len(r.Errors) > errs:
	case k.Expires.IsZero():
		r.Errorf(n, "expires: the first moment of year 1 stands for none: write a later one, or omit the field for a key that never expires")
	case k.Expires.Before(r.now):
		r.Warnf(n, "this key has expired already")
	}
}

func (r *keyReader) meta(k *keystore.Key, n *yaml.Node) {
	k.Meta = once(r, "meta", n, func() json.RawMessage { return r.JSON("meta", n, &r.aliasBudget) })
}

func (r *keyReader) ratelimits(k *keystore.Key, n *yaml.Node) {
	k.Ratelimits = once(r, "ratelimits", n, func() (limits []keystore.Ratelimit) {
		r.Sequence(n, func(entry *yaml.Node) { limits = append(limits, r.ratelimit(entry, limits)) })
		return limits
	})
}

// ratelimit reads a rate limit of a key that has the others.
func (r *keyReader) ratelimit(n *yaml.Node, others []keystore.Ratelimit) keystore.Ratelimit {
	var l keystore.Ratelimit
	places := make(map[string]*yaml.Node, 3)
	required := func(name string, read func(*yaml.Node)) func(*yaml.Node) {
		return func(n *yaml.Node) { places[name] = n; read(n) }
	}
	errs := len(r.Errors)
	if !r.Mapping(n, strictyaml.Fields{
		"name":       required("name", func(n *yaml.Node) { l.Name = r.String(n) }),
		"limit":      required("limit", func(n *yaml.Node) { l.Limit = r.Int(n) }),
		"duration":   required("duration", func(n *yaml.Node) { l.Duration = r.Duration(n) }),
		"auto_apply": func(n *yaml.Node) { l.OnDemand = !r.Bool(n) },
	}) || len(r.Errors) > errs {
		return l
	}
	for _, name := range []string{"name", "limit", "duration"} {
		if places[name] == nil {
			r.Errorf(n, "a rate limit without %s: write it as {name: requests, limit: 100, duration: 1m}", name)
		}
	}
	if err := l.Validate(others); err != nil {
		for text := range strings.SplitSeq(err.Error(), "\n") {
			name, _, _ := strings.Cut(text, ":")
			if place := places[name]; place != nil {
				r.Errorf(place, "%s", text)
			}
		}
	}
	return l
}

// A sharedValue is a node with an anchor as the value of a field.
type sharedValue struct {
	node  *yaml.Node
	field string
}

// once returns what read makes of a field's value n. A value with an anchor is read only once, so
// that many keys may share one long list.
func once[T any](r *keyReader, field string, n *yaml.Node, read func() T) T {
	target := strictyaml.Resolve(n)
	if target.Anchor == "" {
		return read()
	}
	key := sharedValue{target, field}
	if v, ok := r.shared[key]; ok {
		return v.(T)
	}
	v := read()
	r.shared[key] = v
	return v
}
