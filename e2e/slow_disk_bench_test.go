package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/decisionlog"
	"extauthz/e2e/harness"
	"extauthz/envoy"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
)

// BenchmarkSlowDisk compares the latency of checks over gRPC while the same process refuses 50,000 requests a
// second, with and without a decision log on a disk that is too slow for their lines. It alternates between
// both, reports medians over rounds, and fails unless each decision is written, or counted and reported as
// dropped.
func BenchmarkSlowDisk(b *testing.B) {
	const rounds, slice = 20, 2 * time.Second
	disk := &slowDisk{perSecond: 5 << 20}
	log, err := decisionlog.Open(decisionlog.Config{Writer: disk, Allowed: 0.01, Refused: 1})
	if err != nil {
		b.Fatal(err)
	}
	var on atomic.Bool
	var recorded atomic.Uint64
	checker, err := check.New(check.Config{Authorizer: authz.New(oneKey{}, time.Now), Record: func(_ context.Context, o *check.Observation) bool {
		if on.Load() {
			if o.Decision.Code == authz.Forbidden {
				recorded.Add(1)
			}
			return log.Record(o, "", "")
		}
		return true
	}})
	if err != nil {
		b.Fatal(err)
	}
	var p99 [2][]time.Duration // of each slice
	for b.Loop() {
		for round := range rounds {
			for turn := range 2 {
				i := (turn + round) % 2
				on.Store(i == 1)
				took := probe(b, checker, slice)
				slices.Sort(took)
				p99[i] = append(p99[i], took[len(took)*99/100])
			}
		}
	}
	on.Store(false)
	stats := settled(log)
	_ = log.Close()
	if said := disk.said.Load(); said != stats.Dropped || disk.decisions.Load() != stats.Written || recorded.Load() > stats.Written+stats.Dropped {
		b.Errorf("%d refused, %+v, but the lines are %d decisions and %d said to be dropped", recorded.Load(), stats, disk.decisions.Load(), said)
	}
	off, with := median(p99[0]), median(p99[1])
	b.ReportMetric(float64(off.Nanoseconds())/1e3, "µs-p99-off")
	b.ReportMetric(float64(with.Nanoseconds())/1e3, "µs-p99-on")
	b.ReportMetric(float64(with)/float64(off), "p99-on/off")
	b.ReportMetric(float64(recorded.Load())/float64(b.N*rounds)/slice.Seconds(), "decisions/s")
	b.ReportMetric(float64(stats.Dropped)/float64(stats.Written+stats.Dropped), "dropped-share")
}

// probe sends checks over gRPC at a fixed rate, whether or not earlier ones have been answered, while the
// process itself refuses others. It returns the latency of each from when it was due.
func probe(b *testing.B, checker *check.Checker, during time.Duration) (took []time.Duration) {
	const perMillisecond, probeEvery = 50, 2 * time.Millisecond
	server := envoy.New(checker)
	g := grpc.NewServer(append(server.ServerOptions(), grpc.NumStreamWorkers(16))...)
	server.Register(g)
	l, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	defer g.Stop()
	c := newChecked(b, &harness.Server{Addr: l.Addr().String()})
	for range 100 {
		if _, err := c.check(b.Context(), listed, "/warm"); err != nil {
			b.Fatal(err)
		}
	}

	end := time.Now().Add(during)
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Go(func() {
		refused := &check.Attributes{
			Peer: "203.0.113.9", Method: "GET", Host: "api.example.com", Path: "/documents/17",
			Headers: []check.Field{{Name: "x-api-key", Value: string(listed)}},
		}
		var out check.Outcome
		for next := time.Now(); next.Before(end); next = next.Add(time.Millisecond) {
			time.Sleep(time.Until(next))
			for range perMillisecond {
				checker.Check(b.Context(), refused, &out)
			}
		}
	})
	for next := time.Now(); next.Before(end); next = next.Add(probeEvery) {
		time.Sleep(time.Until(next))
		wg.Go(func() {
			if ok, err := c.check(b.Context(), listed, "/documents/17"); err != nil || !ok {
				b.Errorf("allowed: %t, %v", ok, err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(next))
		})
	}
	wg.Wait()
	return took
}

// oneKey holds one key, for the address of the probes.
type oneKey struct{}

var theKey = &keystore.Key{ID: "key_listed", Hash: listed.Hash(), Enabled: true, Whitelist: storetest.Whitelist("127.0.0.1")}

func (oneKey) Lookup(_ context.Context, h keystore.Hash) (*keystore.Key, error) {
	if h != listed.Hash() {
		return nil, keystore.ErrNotFound
	}
	return theKey, nil
}

// settled waits until the log has written its buffer, and returns its counters.
func settled(l *decisionlog.Log) decisionlog.Stats {
	for {
		before := l.Stats()
		time.Sleep(3 * time.Second)
		if now := l.Stats(); now == before && now.Pending == 0 {
			return now
		}
	}
}

// A slowDisk accepts a limited number of bytes a second, and counts the lines.
type slowDisk struct {
	perSecond       int
	decisions, said atomic.Uint64
}

func (d *slowDisk) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(len(p)) * time.Second / time.Duration(d.perSecond))
	for line := range bytes.Lines(p) {
		var of struct {
			Type    string
			Dropped uint64
		}
		if bytes.HasPrefix(line, []byte(`{"version":1,"type":"decision"`)) {
			d.decisions.Add(1)
		} else if err := json.Unmarshal(line, &of); err == nil {
			d.said.Add(of.Dropped)
		}
	}
	return len(p), nil
}
