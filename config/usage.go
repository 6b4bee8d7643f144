package config

import (
	"time"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Usage configures whether the server records from which addresses each key is used. Addresses are
// personal data in many places: docs/usage.md lists what is stored.
type Usage struct {
	Record          bool          // default: false
	Retention       time.Duration // how long addresses are stored, from 24h; default: 720h
	Flush           time.Duration // how often counts are written to the store; default: 10s
	AddressesPerKey int           // IPv4 addresses and IPv6 /64 networks of one key, from 2; default: 256

	// Path is the file of the usage with a YAML store; a relative one starts from the
	// configuration file's folder. The usage of keys in Postgres or Redis is stored there.
	Path string
}

func (r *reader) usage(n *yaml.Node) {
	u := &r.c.Usage
	r.usageNode = n
	r.Mapping(n, strictyaml.Fields{
		"record":            func(n *yaml.Node) { u.Record = r.Bool(n) },
		"retention":         func(n *yaml.Node) { r.duration(n, &u.Retention, 24*time.Hour, 10*366*24*time.Hour) },
		"flush":             func(n *yaml.Node) { r.duration(n, &u.Flush, 100*time.Millisecond, time.Hour) },
		"addresses_per_key": func(n *yaml.Node) { r.number(n, &u.AddressesPerKey, 2, 100_000) },
		"path": func(n *yaml.Node) {
			s, ok := value(r, n, r.String)
			switch {
			case !ok:
			case s == "":
				r.Errorf(n, "path is empty: write one such as usage.db, or omit the field")
			default:
				u.Path = r.resolve(s)
			}
		},
	})
}

// checkUsage checks what depends on the store.
func (r *reader) checkUsage() {
	u := r.c.Usage
	if r.c.Store.YAML != nil && u.Record && u.Path == "" {
		r.Errorf(r.usageNode, "recording usage with a key file requires a file for it: write `path: usage.db`")
	}
}
