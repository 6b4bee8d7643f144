package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// results are all results of a run, as in the JSON file.
type results struct {
	Machine machine       `json:"machine"`
	Plan    string        `json:"plan"`
	Targets []target      `json:"targets"`
	Direct  []*directCase `json:"direct"`
	Growth  []*directCase `json:"growth"`
	Envoy   []*envoyCase  `json:"through_envoy"`
	Memory  []memory      `json:"memory"`
	Changes []*change     `json:"changes"`
	Reload  *reload       `json:"reload"`
	Micro   []*micro      `json:"micro"`
}

// everything runs all measurements.
func everything(ctx context.Context, b *bed, p plan, name string) (*results, error) {
	r := &results{Machine: thisMachine(b), Plan: name}
	began := time.Now()
	say := func(what string) { fmt.Fprintf(os.Stderr, "%5.0fs  %s\n", time.Since(began).Seconds(), what) }
	say("Go benchmarks")
	var err error
	if r.Micro, err = micros(ctx, p.rounds); err != nil {
		return nil, err
	}
	say("starting everything")
	s, err := newStage(ctx, b, p)
	if err != nil {
		return nil, err
	}
	r.Direct, r.Growth, r.Envoy = s.direct, s.growth, s.envoys
	for name, keys := range map[string]int{namePostgres: usual.keys, postgresOf(p.million): min(hot, p.million)} {
		if err := s.warm(ctx, name, keys); err != nil {
			return nil, err
		}
	}
	say("checks over gRPC, alternating between servers")
	if err := alternate(ctx, s.direct, p.rounds, p.time); err != nil {
		return nil, err
	}
	say("growth: keys and ranges")
	if err := alternate(ctx, s.growth, p.rounds, p.time); err != nil {
		return nil, err
	}
	say("requests through Envoy")
	if err := through(ctx, s.envoys, min(p.rounds, 3), p.time); err != nil {
		return nil, err
	}
	r.Memory = s.memories()
	if err := r.halves(ctx, p); err != nil {
		return nil, err
	}
	// Before the changes, because changes of 20,000 keys in Envoy keep a processor busy afterwards.
	say("checks while a large key file is reloaded")
	if r.Reload, err = s.measureReload(ctx); err != nil {
		return nil, err
	}
	say("time until a change of a key takes effect")
	if r.Changes, err = s.changes(ctx); err != nil {
		return nil, err
	}
	say("done")
	r.Targets = r.targets(p)
	return r, ctx.Err()
}

// warm uses keys of a server until nearly all are in its cache.
func (s *stage) warm(ctx context.Context, name string, keys int) error {
	for _, c := range slices.Concat(s.direct, s.growth) {
		if c.Name != name {
			continue
		}
		for n := 0; n < 8*keys; { // uniform draws miss e^-8 of the keys
			done, err := c.load.run(ctx, time.Second/2)
			if err != nil {
				return fmt.Errorf("%s: %w\n%s", c.Name, err, c.server.tail())
			}
			n += done
		}
	}
	return nil
}

// memories returns the current memory of each process.
func (s *stage) memories() []memory {
	var all []memory
	seen := map[*process]bool{}
	add := func(name string, p *process) {
		if !seen[p] {
			seen[p] = true
			all = append(all, memory{name, float64(p.rss()) / (1 << 20)})
		}
	}
	for _, c := range slices.Concat(s.direct, s.growth) {
		add(c.Name, c.server.process)
	}
	for _, c := range s.envoys {
		if c.server == nil {
			add(c.Name, c.envoy.process)
		} else {
			add(c.Name, c.server.process) // unless it was measured directly
		}
	}
	return all
}

// write writes the JSON, the table and the plots.
func (r *results) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	files := map[string]string{"results.json": string(b) + "\n", "results.md": r.markdown()}
	for name, plot := range r.plots() {
		files[name] = plot.svg()
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
