package main

import (
	"context"
	"fmt"
	"time"
)

// measure adds one round: at saturation, and at half the saturation rate of the first round.
func (c *envoyCase) measure(ctx context.Context, d time.Duration) error {
	if err := c.flow(ctx, &c.Saturation, d, 0); err != nil {
		return err
	}
	return c.half(ctx, d)
}

func (c *envoyCase) half(ctx context.Context, d time.Duration) error {
	return c.flow(ctx, &c.Half, d, c.Saturation.Rate.Rounds[0]/2)
}

func (c *envoyCase) flow(ctx context.Context, f *flow, d time.Duration, rate float64) error {
	cpu := func() (server, envoy time.Duration) {
		if c.server != nil {
			server = c.server.cpu()
		}
		return server, c.envoy.cpu()
	}
	server, envoy := cpu()
	began := time.Now()
	took, err := c.load.run(ctx, d, rate)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", c.Name, err, c.envoy.tail())
	}
	elapsed := time.Since(began)
	serverNow, envoyNow := cpu()
	f.add(took, elapsed, serverNow-server, envoyNow-envoy)
	return nil
}

// through measures the cases alternately. The first round is a warm-up.
func through(ctx context.Context, cases []*envoyCase, rounds int, d time.Duration) error {
	for _, c := range cases {
		if _, err := c.load.run(ctx, d/4, 0); err != nil {
			return fmt.Errorf("%s: %w\n%s", c.Name, err, c.envoy.tail())
		}
	}
	for range rounds {
		for _, c := range cases {
			if err := c.measure(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func newEnvoyCase(name string, e *envoyServer, s *server, draw func() string) (*envoyCase, error) {
	l, err := newHTTPLoad(e.addr, draw)
	return &envoyCase{Name: name, envoy: e, server: s, load: l}, err
}
