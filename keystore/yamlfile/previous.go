package yamlfile

import (
	"gopkg.in/yaml.v3"

	"extauthz/keystore"
	"extauthz/strictyaml"
)

func (r *keyReader) mode(k *keystore.Key, n *yaml.Node) {
	errs := len(r.Errors)
	text := r.String(n)
	if len(r.Errors) > errs {
		return
	}
	mode, err := keystore.ParseWhitelistMode(text)
	if err != nil {
		r.Errorf(n, "ip_whitelist_mode: %v", err)
	}
	k.WhitelistMode = mode
}

func formatMode(m keystore.WhitelistMode) string {
	if m == keystore.Enforce { // the default
		return ""
	}
	return m.String()
}

const previousForm = "write {hash: SHA-256 of the secret before the rotation, until: the last moment at which it works}, or omit previous"

func (r *keyReader) previous(k *keystore.Key, n *yaml.Node) {
	errs := len(r.Errors)
	at := position{}
	if !r.Mapping(n, strictyaml.Fields{
		"hash": func(n *yaml.Node) {
			k.Previous.Hash = r.parseHash(&at, n, "previous: nothing where a hash is expected: "+previousForm)
		},
		"until": func(n *yaml.Node) { k.Previous.Until = r.Time(n).UTC() },
	}) || len(r.Errors) > errs {
		return
	}
	r.record.previousAt, r.previousNode = at, n
	switch p := k.Previous; {
	case at == position{}:
		r.Errorf(n, "previous without a hash: %s", previousForm)
	case p.Until.IsZero():
		r.Errorf(n, "previous without the moment until which it works: %s", previousForm)
	}
}

// checkPrevious reports a previous secret that is the key's own.
func (r *keyReader) checkPrevious() {
	if k := r.record.key; k.Hash == k.Previous.Hash && r.record.previousAt != (position{}) {
		r.Errorf(r.previousNode, "previous: the hash of the previous secret is the key's own: omit previous")
		r.record.previousAt = position{}
	}
}

func formatPrevious(p keystore.PreviousSecret) string {
	if p == (keystore.PreviousSecret{}) {
		return ""
	}
	return "{hash: " + formatHash(p.Hash) + ", until: " + formatTime(p.Until) + "}"
}

// hashes returns the hashes of a key that a record has, with their places.
func (r record) hashes(yield func(keystore.Hash, position) bool) {
	if yield(r.key.Hash, r.hashAt) && r.previousAt != (position{}) {
		yield(r.key.Previous.Hash, r.previousAt)
	}
}
