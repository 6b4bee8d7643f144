package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// A reload holds the latencies of checks while a large key file reloads.
type reload struct {
	Keys   int    `json:"keys"`
	Rate   int    `json:"checks_per_second"`
	AtRest series `json:"p99_at_rest_us"`
	During series `json:"p99_during_reload_us"`
	Took   series `json:"reload_ms"`
}

// reloadRate is well below saturation, where the p99 would be that of the queue.
const reloadRate = 3000

// measureReload alternates between a time at rest and a reload. Every second file disables the last key; the
// load uses only the other keys.
func (s *stage) measureReload(ctx context.Context) (*reload, error) {
	set := keySet{s.plan.reloadKeys, 3}
	files := [2]string{filepath.Join(s.bed.dir, "reload-a"), filepath.Join(s.bed.dir, "reload-b")}
	for i, disabled := range []int{noKey, set.keys - 1} {
		if err := set.writeYAML(files[i], disabled); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(s.bed.dir, "reload", "keys.yaml")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := put(path, files[0]); err != nil {
		return nil, err
	}
	addr := freePort()
	server, err := s.bed.serve("reload", addr, set, s.bed.extauthz, "serve", "--keys", path, "--listen", addr, "--admin", "none")
	if err != nil {
		return nil, err
	}
	load, err := newDirectLoad(addr, among(set.keys-1), true)
	if err != nil {
		return nil, err
	}
	defer load.close()
	r := &reload{Keys: set.keys, Rate: reloadRate}
	for round := range 4 * s.plan.rounds { // the p99 of a few hundred checks varies much
		disabled := round%2 == 0
		next := files[0]
		if disabled {
			next = files[1]
		}
		if err := r.round(ctx, load, s.plan.time, func() (time.Duration, error) {
			if err := put(path, next); err != nil {
				return 0, err
			}
			return until(ctx, !disabled, func() (bool, error) {
				time.Sleep(20 * time.Millisecond)
				return load.check(ctx, 0, secret(set.keys-1))
			})
		}); err != nil {
			return nil, fmt.Errorf("reload: %w\n%s", err, server.tail())
		}
	}
	return r, nil
}

// showReload measures only the reload, and prints it.
func showReload(ctx context.Context, b *bed, p plan) error {
	r, err := (&stage{bed: b, plan: p}).measureReload(ctx)
	if err == nil {
		fmt.Printf("p99 at rest %.0f µs, during a reload %.0f µs: %.2f; live after %.0f ms\n", r.AtRest.Median, r.During.Median,
			r.During.Median/r.AtRest.Median, r.Took.Median)
	}
	return err
}

// put replaces a file by a hard link to another one, atomically.
func put(path, from string) error {
	if err := os.Link(from, path+".new"); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// round measures checks at rest, and then checks from the change of the file until it is live.
func (r *reload) round(ctx context.Context, load *directLoad, rest time.Duration, change func() (time.Duration, error)) error {
	run := func(ctx context.Context, d time.Duration) ([]time.Duration, error) {
		return paced(ctx, directCalls, d, reloadRate, func(_ context.Context, worker int) error {
			allowed, err := load.check(context.WithoutCancel(ctx), worker, load.draw())
			if err == nil && !allowed {
				err = fmt.Errorf("a key that did not change is refused")
			}
			return err
		})
	}
	atRest, err := run(ctx, rest)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var took time.Duration
	var changeErr error
	done := make(chan struct{})
	go func() { defer close(done); defer stop(); took, changeErr = change() }()
	during, err := run(running, patience)
	<-done
	if changeErr != nil {
		return changeErr
	}
	if err != nil {
		return err
	}
	r.AtRest.add(us(quantile(atRest, 0.99)))
	r.During.add(us(quantile(during, 0.99)))
	r.Took.add(float64(took.Milliseconds()))
	return nil
}
