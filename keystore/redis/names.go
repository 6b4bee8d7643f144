package redis

import (
	"errors"
	"strings"

	"extauthz/keystore"
)

// names are the names of the entries of one store. All share a hash tag.
type names struct {
	records string // the prefix of the name of each record
	ids     string // the index
	audit   string // the trail; scripts make the name themselves
	probe   string // never exists
}

func newNames(prefix string) (names, error) {
	prefix, err := TaggedPrefix(prefix)
	if err != nil {
		return names{}, err
	}
	return names{records: prefix + "key:", ids: prefix + "ids", audit: prefix + "audit", probe: prefix + "probe"}, nil
}

// TaggedPrefix returns the prefix with a hash tag, which keeps all entries of a store in one slot
// of a cluster: extauthz: becomes {extauthz}:. An empty prefix means the default.
func TaggedPrefix(prefix string) (string, error) {
	if prefix == "" {
		prefix = "extauthz:"
	}
	open := strings.IndexByte(prefix, '{')
	tagged := open >= 0 && strings.IndexByte(prefix[open:], '}') > 1
	switch {
	case strings.ContainsFunc(prefix, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("redis: the prefix contains a space or a character other than printable ASCII: write one such as extauthz: or acme:keys")
	case !tagged && strings.ContainsAny(prefix, "{}"):
		return "", errors.New("redis: the prefix contains a brace, but no hash tag such as {extauthz}")
	case !tagged && strings.Trim(prefix, ":") == "":
		return "", errors.New("redis: the prefix contains only colons: write a name before them")
	case !tagged:
		prefix = "{" + strings.TrimRight(prefix, ":") + "}:"
	}
	return prefix, nil
}

func (n names) record(h keystore.Hash) string { return n.records + h.String() }

// hash returns the hash of the record with this name, if it is one.
func (n names) hash(name string) (keystore.Hash, bool) {
	digits, ok := strings.CutPrefix(name, n.records)
	h, err := keystore.ParseHash(digits)
	return h, ok && err == nil && h.String() == digits
}

// splitMember returns the id and the hash of a member of the index, "<id> <hash>". A space is below
// every character of an id, so that the byte order of the members is that of the ids.
func splitMember(m string) (id string, h keystore.Hash, ok bool) {
	id, digits, ok := strings.Cut(m, " ")
	h, err := keystore.ParseHash(digits)
	return id, h, ok && err == nil
}
