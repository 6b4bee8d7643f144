package config

import (
	"maps"
	"time"

	"gopkg.in/yaml.v3"

	"extauthz/keystore/cache"
	"extauthz/strictyaml"
)

// Store configures where the keys are. Exactly one of its fields is set. It has no default.
type Store struct {
	YAML     *YAMLStore     // yaml in the file
	Postgres *PostgresStore // postgres in the file
	Redis    *RedisStore    // redis in the file
}

// Name returns the name of the store in logs and commands: its path or its kind, never a password.
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

// YAMLStore is a key file, or a folder of key files. It is kept in memory and reloaded when it
// changes.
type YAMLStore struct {
	Path string // a relative one starts from the configuration file's folder
}

// PostgresStore is the table extauthz.keys of a PostgreSQL database, which
// `extauthz store migrate` makes.
type PostgresStore struct {
	// DSN is a URL such as postgres://extauthz:${PGPASSWORD}@db:5432/extauthz?sslmode=verify-full,
	// or the keyword form of libpq. Missing values come from the PG… environment variables. Its
	// parameters set several hosts, TLS and the size of the pool.
	DSN string

	// Listen is a DSN for the connection that reports changes. Set it if DSN leads to a connection
	// pooler in transaction mode, which does not support LISTEN. Default: DSN.
	Listen string
}

// RedisStore is a Redis or Valkey server, one behind sentinels, or a cluster.
type RedisStore struct {
	// URL is a URL such as rediss://extauthz:${REDIS_PASSWORD}@redis:6379. Several hosts are a
	// cluster, or sentinels if the URL ends in ?master_set=NAME.
	URL string

	// Prefix is the prefix of the name of every entry. Default: extauthz:, which appears in the
	// names as {extauthz}:, so that they share a slot.
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
		r.c.Store.YAML = &YAMLStore{Path: r.resolve(path)}
	}, nil)
}

func (r *reader) postgresStore(n *yaml.Node) {
	var p PostgresStore
	r.where(n, "postgres", "dsn", exampleDSN, func(dsn string) { p.DSN = dsn }, strictyaml.Fields{
		"listen": func(n *yaml.Node) {
			if s, ok := value(r, n, r.String); ok {
				p.Listen = s
				if s == "" {
					r.Errorf(n, "listen is empty: write a dsn that reaches the database itself, or omit the field")
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
					r.Errorf(n, "prefix is empty: write one such as extauthz:, or omit the field")
				}
			}
		},
	})
	if url != "" {
		r.c.Store.Redis = &RedisStore{URL: url, Prefix: prefix}
	}
}

// where reads a kind of store with one required text field, and optional others. Its errors do not
// repeat the text, which may contain a password.
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

// Cache configures the cache of a remote store. A YAML store is in memory and does not use it. See
// [extauthz/keystore/cache.Cache] for the exact meaning of the times.
type Cache struct {
	Size         int           // the number of records, from 1; default: 100000
	TTL          time.Duration // how long a record is used without asking the store; default: 1m
	MaxStale     time.Duration // how long a record is used while the store is unreachable, 0 for never; default: 10m
	NegativeSize int           // the number of unknown hashes, from 1; default: 10000
	NegativeTTL  time.Duration // how long a hash stays unknown without asking the store, 0 for not at all; default: 5s

	// MaxInFlight is how many lookups may be in progress; more requests are UNAVAILABLE at once.
	// Default: 1024.
	MaxInFlight int

	// LookupTimeout limits the time of one lookup. Keep it below Envoy's timeout for the check,
	// whose default is 200ms. Default: 150ms.
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
