package config

import (
	"maps"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"

	"extauthz/keystore/cache"
	"extauthz/strictyaml"
)

// Store says where the keys are: exactly one of its fields is set. It has no default.
type Store struct {
	YAML     *YAMLStore     // yaml in the file
	Postgres *PostgresStore // postgres in the file
	Redis    *RedisStore    // redis in the file
}

// Name returns what logs and commands call the store: its path or its kind, never a password.
func (s Store) Name() string {
	switch {
	case s.YAML != nil:
		return s.YAML.Path
	case s.Postgres != nil:
		return "postgres"
	case s.Redis != nil:
		return "redis"
	}
	return "none"
}

// YAMLStore is a key file, or a folder of them, held in memory and followed as it changes.
type YAMLStore struct {
	Path string // a relative one starts from the configuration file's folder
}

// PostgresStore is the table extauthz.keys of a PostgreSQL database, which
// `extauthz store migrate` makes.
type PostgresStore struct {
	// DSN is a URL such as postgres://extauthz:${PGPASSWORD}@db:5432/extauthz?sslmode=verify-full,
	// or the keyword form of libpq. What it leaves out comes from the PG… environment
	// variables; several hosts, TLS and the pool's size are set by its parameters.
	DSN string

	// Listen is a DSN that reaches the same database past a connection pooler in transaction
	// mode, which takes LISTEN away: what reports changes uses it. Default: DSN.
	Listen string
}

// RedisStore is a Redis or Valkey server, one behind sentinels, or a cluster.
type RedisStore struct {
	// URL is one such as rediss://extauthz:${REDIS_PASSWORD}@redis:6379. Several hosts are a
	// cluster, or sentinels where it ends in ?master_set=NAME.
	URL string

	// Prefix begins the name of every entry. Default: extauthz:, which stands in the names as
	// {extauthz}:, so that they share a slot.
	Prefix string
}

const (
	exampleDSN = "postgres://extauthz@db:5432/extauthz?sslmode=verify-full"
	exampleURL = "rediss://redis:6379"
)

func (r *reader) store(n *yaml.Node) {
	r.hasStore = true
	backends, bad := 0, len(r.Errors)
	r.Mapping(n, strictyaml.Fields{
		"yaml":     func(n *yaml.Node) { backends++; r.yamlStore(n) },
		"postgres": func(n *yaml.Node) { backends++; r.postgresStore(n) },
		"redis":    func(n *yaml.Node) { backends++; r.redisStore(n) },
	})
	if backends != 1 && len(r.Errors) == bad {
		r.Errorf(n, "a store has exactly one kind: write `yaml: {path: keys.yaml}`, or postgres or redis in its place")
	}
}

func (r *reader) yamlStore(n *yaml.Node) {
	r.where(n, "yaml", "path", "keys.yaml", func(path string) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(r.File), path)
		}
		r.c.Store.YAML = &YAMLStore{Path: path}
	}, nil)
}

func (r *reader) postgresStore(n *yaml.Node) {
	var p PostgresStore
	r.where(n, "postgres", "dsn", exampleDSN, func(dsn string) { p.DSN = dsn }, strictyaml.Fields{
		"listen": func(n *yaml.Node) {
			if s, ok := value(r, n, r.String); ok {
				p.Listen = s
				if s == "" {
					r.Errorf(n, "listen is empty: write a dsn that reaches the database itself, or leave it out")
				}
			}
		},
	})
	if p.DSN != "" {
		r.c.Store.Postgres = &p
	}
}

func (r *reader) redisStore(n *yaml.Node) {
	prefix := "extauthz:"
	var url string
	r.where(n, "redis", "url", exampleURL, func(s string) { url = s }, strictyaml.Fields{
		"prefix": func(n *yaml.Node) {
			if s, ok := value(r, n, r.String); ok {
				prefix = s
				if s == "" {
					r.Errorf(n, "prefix is empty: write one such as extauthz:, or leave it out")
				}
			}
		},
	})
	if url != "" {
		r.c.Store.Redis = &RedisStore{URL: url, Prefix: prefix}
	}
}

// where reads a kind of store that is named by one field of text; others may be beside it. What
// stands there is not repeated: it may hold a password.
func (r *reader) where(n *yaml.Node, kind, field, example string, take func(string), others strictyaml.Fields) {
	fields := strictyaml.Fields{}
	maps.Copy(fields, others)
	named := false
	fields[field] = func(n *yaml.Node) {
		named = true
		s, ok := value(r, n, r.String)
		switch {
		case !ok:
		case s == "":
			r.Errorf(n, "%s is empty: write one such as %s", field, example)
		default:
			take(s)
		}
	}
	if r.Mapping(n, fields) && !named {
		r.Errorf(n, "%s is missing: write `%s: {%s: %q}`", field, kind, field, example)
	}
}

// Cache is what is kept of a store across the network. A YAML store is in memory as it is and
// has no use for it. [extauthz/keystore/cache.Cache] says what the times mean in full.
type Cache struct {
	Size         int           // records kept, from 1; default: 100000
	TTL          time.Duration // how long a record answers unasked; default: 1m
	MaxStale     time.Duration // how long one serves a store out of reach, 0 for never; default: 10m
	NegativeSize int           // unknown hashes kept, from 1; default: 10000
	NegativeTTL  time.Duration // how long one stays unknown unasked, 0 for not at all; default: 5s

	// MaxInFlight bounds the look-ups under way; past it requests are UNAVAILABLE at once.
	// Default: 1024.
	MaxInFlight int

	// LookupTimeout bounds one look-up. Keep it below Envoy's timeout for the check, which is
	// 200ms unless it is set. Default: 150ms.
	LookupTimeout time.Duration
}

func defaultCache() Cache {
	d := cache.DefaultConfig()
	return Cache{d.Size, d.TTL, d.MaxStale, d.NegativeSize, d.NegativeTTL, d.MaxInFlight, d.LookupTimeout}
}

func (r *reader) cache(n *yaml.Node) {
	c := &r.c.Cache
	r.Mapping(n, strictyaml.Fields{
		"size":           func(n *yaml.Node) { r.number(n, &c.Size, 1, 100_000_000) },
		"ttl":            func(n *yaml.Node) { r.duration(n, &c.TTL, time.Millisecond, 24*time.Hour) },
		"max_stale":      func(n *yaml.Node) { r.duration(n, &c.MaxStale, 0, 7*24*time.Hour) },
		"negative_size":  func(n *yaml.Node) { r.number(n, &c.NegativeSize, 1, 100_000_000) },
		"negative_ttl":   func(n *yaml.Node) { r.duration(n, &c.NegativeTTL, 0, time.Hour) },
		"max_in_flight":  func(n *yaml.Node) { r.number(n, &c.MaxInFlight, 1, 1_000_000) },
		"lookup_timeout": func(n *yaml.Node) { r.duration(n, &c.LookupTimeout, time.Millisecond, time.Minute) },
	})
}
