package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A plan sets the sizes and durations of a run.
type plan struct {
	rounds     int
	time       time.Duration // of one measurement
	native     []int         // the numbers of keys in Envoy's own filters
	million    int           // the most keys in Postgres
	yamlKeys   []int         // the numbers of keys in a file
	ranges     []int         // the numbers of ranges on one key
	reloadKeys int
}

var (
	full = plan{
		rounds: 5, time: 600 * time.Millisecond, native: []int{100, 1000, 20_000}, million: 1_000_000,
		yamlKeys: []int{100, 1000, 100_000}, ranges: []int{1, 2, 10, 100, 1000, 10_000, 50_000}, reloadKeys: 100_000,
	}
	quick = plan{
		rounds: 3, time: 300 * time.Millisecond, native: []int{100, 1000}, million: 100_000,
		yamlKeys: []int{100}, ranges: []int{2, 50_000}, reloadKeys: 20_000,
	}
)

// usual is the default key set of the servers.
var usual = keySet{keys: 10_000, ranges: 3}

// hot is the number of keys in Postgres that the load uses. They fit the cache's default size.
const hot = 50_000

// The names of the cases that have targets.
const (
	nameStock     = "stock, always allows, TCP"
	nameStockUnix = "stock, always allows, unix socket"
	nameOPA       = "OPA library, TCP"
	nameNaive     = "naive, TCP"
	nameTCP       = "extauthz, TCP"
	nameUnix      = "extauthz, unix socket"
	nameInside    = "extauthz, dynamic module"
	namePostgres  = "extauthz, Postgres cached, TCP"
	nameLimited   = "extauthz with a memory limit of 512MiB, TCP"
	nameRandom    = "extauthz, random secrets refused"
	nameForbidden = "extauthz, address refused"
)

// A stage is everything that is measured.
type stage struct {
	bed    *bed
	plan   plan
	db     *database
	direct []*directCase
	growth []*directCase
	envoys []*envoyCase

	file    *server // extauthz over a key file
	cached  *server // extauthz over Postgres
	dsn     string  // of cached
	servers map[string]*server
}

// A memory is the memory of a server after the load.
type memory struct {
	Name string  `json:"name"`
	MiB  float64 `json:"mib"`
}

func newStage(ctx context.Context, b *bed, p plan) (*stage, error) {
	s := &stage{bed: b, plan: p, servers: map[string]*server{}}
	var err error
	if s.db, err = startDatabase(); err != nil {
		return nil, err
	}
	b.add(s.db.server.Close)
	for _, set := range []func(context.Context) error{s.setServers, s.setDirect, s.setGrowth, s.setEnvoys} {
		if err := set(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// setServers starts the servers that are measured both directly and through Envoy.
func (s *stage) setServers(ctx context.Context) error {
	for _, c := range []struct {
		name  string
		start func() (*server, error)
	}{
		{nameStock, func() (*server, error) { return s.bed.peer("stock", "tcp", usual) }},
		{nameStockUnix, func() (*server, error) { return s.bed.peer("stock", "unix", usual) }},
		{nameOPA, func() (*server, error) { return s.bed.peer("opa", "tcp", usual) }},
		{nameNaive, func() (*server, error) { return s.bed.peer("naive", "tcp", usual) }},
		{nameTCP, func() (*server, error) { return s.bed.yaml("extauthz-tcp", "tcp", usual) }},
		{nameUnix, func() (*server, error) { return s.bed.yaml("extauthz-unix", "unix", usual) }},
		{namePostgres, func() (*server, error) { return s.bed.postgres(ctx, s.db, "usual", usual) }},
	} {
		server, err := c.start()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		s.servers[c.name] = server
	}
	s.file, s.cached = s.servers[nameTCP], s.servers[namePostgres]
	s.dsn = s.db.server.URL("usual", s.db.server.Addr())
	return nil
}

// setDirect adds the cases of a direct load.
func (s *stage) setDirect(context.Context) error {
	for _, name := range []string{nameStock, nameStockUnix, nameOPA, nameNaive, nameTCP, nameUnix, namePostgres} {
		if err := s.add(&s.direct, name, s.servers[name], among(usual.keys), true); err != nil {
			return err
		}
	}
	limited, err := s.bed.yaml("extauthz-limited", "tcp", usual, "env", "GOMEMLIMIT=512MiB", s.bed.extauthz)
	if err != nil {
		return err
	}
	if err := s.add(&s.direct, nameLimited, limited, among(usual.keys), true); err != nil {
		return err
	}
	if err := s.add(&s.direct, nameForbidden, s.file, among(usual.keys), false); err != nil {
		return err
	}
	if s.direct[len(s.direct)-1].load.template, err = newTemplate(stranger); err != nil {
		return err
	}
	return s.add(&s.direct, nameRandom, s.file, random, false)
}

func (s *stage) add(to *[]*directCase, name string, server *server, draw func() string, allowed bool) error {
	c, err := newDirectCase(name, server, draw, allowed)
	*to = append(*to, c)
	return err
}

// The names of the cases that differ in one size, by that size.
func fileOf(keys int) string     { return fmt.Sprintf("key file, %d keys", keys) }
func postgresOf(keys int) string { return fmt.Sprintf("Postgres cached, %d keys", keys) }
func rangesOf(n int) string      { return fmt.Sprintf("%d ranges on the key", n) }

func (s *stage) setGrowth(ctx context.Context) error {
	for _, n := range s.plan.yamlKeys {
		server, err := s.bed.yaml(fmt.Sprintf("keys-%d", n), "tcp", keySet{n, 3})
		if err != nil {
			return err
		}
		if err := s.add(&s.growth, fileOf(n), server, among(n), true); err != nil {
			return err
		}
	}
	for _, n := range []int{100, s.plan.million} {
		server, err := s.bed.postgres(ctx, s.db, fmt.Sprintf("keys_%d", n), keySet{n, 3})
		if err != nil {
			return err
		}
		if err := s.add(&s.growth, postgresOf(n), server, among(min(n, hot)), true); err != nil {
			return err
		}
	}
	for _, n := range s.plan.ranges {
		server, err := s.bed.yaml(fmt.Sprintf("ranges-%d", n), "tcp", keySet{1, n})
		if err != nil {
			return err
		}
		if err := s.add(&s.growth, rangesOf(n), server, only(0), true); err != nil {
			return err
		}
	}
	return nil
}

// The names of Envoy's own filters, by the number of their keys.
const nameNoFilter = "Envoy, no filter"

func policiesOf(keys int) string { return fmt.Sprintf("api_key_auth + rbac policies, %d keys", keys) }

func matcherOf(keys int) string { return fmt.Sprintf("api_key_auth + rbac matcher, %d keys", keys) }

func (s *stage) setEnvoys(context.Context) error {
	if err := s.setInside(); err != nil {
		return err
	}
	for _, n := range s.plan.native {
		e, err := s.bed.startEnvoy(fmt.Sprintf("policies-%d", n), native(keySet{n, 3}, rbacPolicies, noKey), "")
		if err := s.addEnvoy(policiesOf(n), e, err, nil, n); err != nil {
			return err
		}
		if err := s.setMatcher(n); err != nil {
			return err
		}
	}
	return s.setAsking(nameStock, nameStockUnix, nameOPA, nameNaive, nameTCP, nameUnix, namePostgres)
}

func (s *stage) addEnvoy(name string, e *envoyServer, err error, server *server, keys int) error {
	if err != nil {
		return err
	}
	c, err := newEnvoyCase(name, e, server, among(keys))
	s.envoys = append(s.envoys, c)
	return err
}

// setInside starts an Envoy without a filter, and one with the dynamic module.
func (s *stage) setInside() error {
	e, err := s.bed.envoyWith("none", nil)
	if err := s.addEnvoy(nameNoFilter, e, err, nil, usual.keys); err != nil {
		return err
	}
	e, err = s.bed.envoyInside(usual)
	return s.addEnvoy(nameInside, e, err, nil, usual.keys)
}

func (s *stage) setMatcher(keys int) error {
	e, err := s.bed.startEnvoy(fmt.Sprintf("matcher-%d", keys), native(keySet{keys, 3}, rbacMatcher, noKey), "")
	return s.addEnvoy(matcherOf(keys), e, err, nil, keys)
}

// setAsking starts Envoys that call these servers.
func (s *stage) setAsking(names ...string) error {
	for _, name := range names {
		e, err := s.bed.envoyWith("asks-"+strings.Map(letters, name), s.servers[name])
		if err := s.addEnvoy(name, e, err, s.servers[name], usual.keys); err != nil {
			return err
		}
	}
	return nil
}

func letters(r rune) rune {
	if r == ' ' || r == ',' {
		return '-'
	}
	return r
}
