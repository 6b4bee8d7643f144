package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A directCase is one server under one direct load.
type directCase struct {
	Name string `json:"name"`
	CPU  series `json:"server_cpu_us_per_check"`
	Rate series `json:"checks_per_second"`

	server *server
	load   *directLoad
}

func newDirectCase(name string, s *server, draw func() string, allowed bool) (*directCase, error) {
	l, err := newDirectLoad(s.addr, draw, allowed)
	return &directCase{Name: name, server: s, load: l}, err
}

// measure adds one round.
func (c *directCase) measure(ctx context.Context, d time.Duration) error {
	began, before := time.Now(), c.server.cpu()
	n, err := c.load.run(ctx, d)
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", c.Name, err, c.server.tail())
	}
	c.CPU.add(float64((c.server.cpu() - before).Nanoseconds()) / 1000 / float64(n))
	c.Rate.add(float64(n) / time.Since(began).Seconds())
	return nil
}

// alternate measures the cases alternately, so that other load on the machine affects all of them.
// The first round is a warm-up.
func alternate(ctx context.Context, cases []*directCase, rounds int, d time.Duration) error {
	for _, c := range cases {
		if _, err := c.load.run(ctx, d/2); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
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

// compare compares several programs with each other and with the stock server. Each is given as
// NAME=COMMAND.
func compare(ctx context.Context, b *bed, programs []string, rounds int, d time.Duration) error {
	keys := keySet{10_000, 3}
	stock, err := b.peer("stock", "tcp", keys)
	if err != nil {
		return err
	}
	c, err := newDirectCase("stock", stock, among(keys.keys), true)
	if err != nil {
		return err
	}
	cases := []*directCase{c}
	for _, p := range programs {
		name, command, _ := strings.Cut(p, "=")
		s, err := b.yaml(name, "tcp", keys, strings.Fields(command)...)
		if err != nil {
			return err
		}
		if c, err = newDirectCase(name, s, among(keys.keys), true); err != nil {
			return err
		}
		cases = append(cases, c)
	}
	if err := alternate(ctx, cases, rounds, d); err != nil {
		return err
	}
	for _, c := range cases {
		fmt.Printf("%-24s %7.2f µs a check  %5.3f of stock  %5.3f of the first  %8.0f checks/s  %5.1f MiB\n", c.Name, c.CPU.Median,
			c.CPU.Median/cases[0].CPU.Median, c.CPU.Median/cases[min(1, len(cases)-1)].CPU.Median, c.Rate.Median, float64(c.server.rss())/(1<<20))
	}
	return nil
}
