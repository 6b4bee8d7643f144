package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// inside compares the dynamic module with an Envoy without a filter, one that calls a sidecar, and one
// with the keys in its own filters.
func inside(ctx context.Context, b *bed, p plan) (*results, error) {
	s := &stage{bed: b, plan: p, servers: map[string]*server{}}
	var err error
	if s.servers[nameUnix], err = b.yaml("extauthz-unix", "unix", usual); err != nil {
		return nil, err
	}
	if err := s.setInside(); err != nil {
		return nil, err
	}
	if err := s.setAsking(nameUnix); err != nil {
		return nil, err
	}
	if err := s.setMatcher(slices.Max(p.native)); err != nil {
		return nil, err
	}
	if err := through(ctx, s.envoys, p.rounds, p.time); err != nil {
		return nil, err
	}
	r := &results{Machine: thisMachine(b), Envoy: s.envoys, Memory: s.memories()}
	if err := r.halves(ctx, p); err != nil {
		return nil, err
	}
	r.Targets = r.insideTargets(p)
	return r, ctx.Err()
}

// halves measures the p99 of the dynamic module and of no filter in many short rounds more, because it varies
// much between rounds: it is that of whichever thread the scheduler makes wait.
func (r *results) halves(ctx context.Context, p plan) error {
	for range 8 * p.rounds {
		for _, name := range []string{nameNoFilter, nameInside} {
			c := r.envoyOf(name)
			if err := c.half(ctx, p.time/2); err != nil {
				return err
			}
		}
	}
	return nil
}

// envoyOf returns the case with this name, or an empty one if it was not measured.
func (r *results) envoyOf(name string) *envoyCase {
	for _, c := range r.Envoy {
		if c.Name == name {
			return c
		}
	}
	return new(envoyCase)
}

func (r *results) memoryOf(name string) float64 {
	for _, m := range r.Memory {
		if m.Name == name {
			return m.MiB
		}
	}
	return 0
}

// insideTargets are the targets of the dynamic module.
func (r *results) insideTargets(p plan) []target {
	none, module, sidecar := r.envoyOf(nameNoFilter), r.envoyOf(nameInside), r.envoyOf(nameUnix)
	matcher := matcherOf(slices.Max(p.native))
	cpu := func(c *envoyCase) float64 { return c.Saturation.EnvoyCPU.Median + c.Saturation.ServerCPU.Median }
	rate := r.rate(nameInside)
	return []target{
		{What: "requests/s through one Envoy worker, dynamic module", Against: nameNoFilter, Is: rate / r.rate(nameNoFilter), Target: 0.9, Limit: 0.8, More: true},
		{What: "the same", Against: nameUnix, Is: rate / r.rate(nameUnix), Target: 2.5, Limit: 1.7, More: true},
		{What: "the same", Against: matcher, Is: rate / r.rate(matcher), Target: 1.0, Limit: 0.9, More: true},
		{What: "CPU per request over that of no filter, dynamic module", Against: nameUnix + ", with Envoy", Is: (cpu(module) - cpu(none)) / (cpu(sidecar) - cpu(none)), Target: 0.2, Limit: 0.35},
		{What: "p99 at half of saturation, dynamic module", Against: nameNoFilter, Is: module.Half.P99.over(&none.Half.P99), Target: 1.2, Limit: 1.5},
		{What: fmt.Sprintf("resident memory over that of no filter, dynamic module, %d keys", usual.keys), Against: nameUnix, Is: (r.memoryOf(nameInside) - r.memoryOf(nameNoFilter)) / r.memoryOf(nameUnix), Target: 1.0, Limit: 1.5},
	}
}

// insideMarkdown returns the results of inside as Markdown tables.
func (r *results) insideMarkdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Load average at the start: %s.\n", r.Machine.LoadAvg)
	r.envoyTable(&b, "At saturation", nameNoFilter, func(c *envoyCase) *flow { return &c.Saturation })
	r.envoyTable(&b, "At half of it", nameNoFilter, func(c *envoyCase) *flow { return &c.Half })
	b.WriteString("\n")
	rows := [][]string{{"process", "resident MiB"}}
	for _, m := range r.Memory {
		rows = append(rows, []string{m.Name, fmt.Sprintf("%.0f", m.MiB)})
	}
	table(&b, rows)
	b.WriteString("\n")
	rows = [][]string{{"what", "against", "is", "target", "at least", ""}}
	for _, t := range r.Targets {
		rows = append(rows, []string{t.What, t.Against, number(t.Is), number(t.Target), number(t.Limit), t.state()})
	}
	table(&b, rows)
	return b.String()
}

// showInside measures the dynamic module and prints the results.
func showInside(ctx context.Context, b *bed, p plan) error {
	r, err := inside(ctx, b, p)
	if err == nil {
		fmt.Print(r.insideMarkdown())
	}
	return err
}
