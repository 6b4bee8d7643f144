package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// A change is how long it takes from a key's change to its effect.
type change struct {
	Name string `json:"name"`
	Took series `json:"ms"`
}

// patience is the maximum time for a change to take effect.
const patience = time.Minute

// until polls until the answer is as wanted, and returns how long that took. It retries after an error: an
// Envoy whose listener is being replaced may reset a connection.
func until(ctx context.Context, want bool, ask func() (bool, error)) (time.Duration, error) {
	for began := time.Now(); ; {
		got, err := ask()
		took := time.Since(began)
		if err == nil && got == want {
			return took, nil
		}
		if took > patience || ctx.Err() != nil {
			return 0, errors.Join(fmt.Errorf("no change after %s", took), err)
		}
		time.Sleep(500 * time.Microsecond)
	}
}

// changes measures this for each kind of store. The key is disabled and enabled; both are measured.
func (s *stage) changes(ctx context.Context) ([]*change, error) {
	last := s.plan.native[len(s.plan.native)-1]
	var all []*change
	for _, c := range []struct {
		name   string
		rounds int
		set    func(enabled bool) error
		ask    func() (bool, error)
	}{
		{"extauthz, key file, " + usual.String(), 2 * s.plan.rounds, s.setInFile, s.ask(s.file)},
		{"extauthz, Postgres cached, " + usual.String(), 2 * s.plan.rounds, func(on bool) error { return s.db.enable(ctx, s.dsn, 0, on) }, s.ask(s.cached)},
		{policiesOf(last), 3, s.setNative(policiesOf(last), last, rbacPolicies), s.askEnvoy(policiesOf(last))},
		{matcherOf(last), 3, s.setNative(matcherOf(last), last, rbacMatcher), s.askEnvoy(matcherOf(last))},
	} {
		result := &change{Name: c.name}
		all = append(all, result)
		for round := range c.rounds {
			enabled := round%2 == 1
			if err := c.set(enabled); err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			took, err := until(ctx, enabled, c.ask)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			result.Took.add(float64(took.Microseconds()) / 1000)
		}
	}
	return all, nil
}

func (s *stage) setInFile(enabled bool) error {
	path, err := s.bed.keyFile(usual)
	if err != nil {
		return err
	}
	if enabled {
		return usual.writeYAML(path, noKey)
	}
	return usual.writeYAML(path, 0)
}

// ask returns whether a server allows the first key.
func (s *stage) ask(server *server) func() (bool, error) {
	for _, c := range s.direct {
		if c.server == server {
			return func() (bool, error) { return c.load.check(context.Background(), 0, secret(0)) }
		}
	}
	return func() (bool, error) { return false, os.ErrNotExist }
}

func (s *stage) envoy(name string) *envoyCase {
	for _, c := range s.envoys {
		if c.Name == name {
			return c
		}
	}
	return nil
}

func (s *stage) setNative(name string, keys int, rules rulesWriter) func(bool) error {
	on, off := native(keySet{keys, 3}, rules, noKey), native(keySet{keys, 3}, rules, 0)
	return func(enabled bool) error {
		filters := off
		if enabled {
			filters = on
		}
		return s.envoy(name).envoy.setFilters(filters)
	}
}

// askEnvoy uses a new connection each time: existing ones stay on the old listener for a while.
func (s *stage) askEnvoy(name string) func() (bool, error) {
	return func() (bool, error) {
		c, err := dialHTTP(s.envoy(name).envoy.addr)
		if err != nil {
			return false, err
		}
		defer c.Close()
		status, err := c.get(secret(0))
		return status == 200, err
	}
}
