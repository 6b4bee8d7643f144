package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// BenchmarkDecisionLog measures the ratio of the CPU time of a check with the default decision log to that
// without one: the median over rounds that alternate between both servers, so that other load on the machine
// affects both.
func BenchmarkDecisionLog(b *testing.B) {
	const rounds, checks, callers = 60, 4000, 4
	for _, bench := range []struct {
		name    string
		refused int // one in this number of requests; 0: none
	}{{"allowed", 0}, {"mixed", 20}, {"refused", 1}} {
		b.Run(bench.name, func(b *testing.B) {
			servers := withAndWithoutLog(b)
			var ratios, off []float64
			for b.Loop() {
				for round := range rounds {
					var used [2]time.Duration
					for turn := range servers {
						i := (turn + round) % len(servers)
						before := cpuTime(b, servers[i])
						var wg sync.WaitGroup
						for range callers {
							wg.Go(func() { askOften(b, servers[i].conn, bench.refused, checks/callers) })
						}
						wg.Wait()
						used[i] = cpuTime(b, servers[i]) - before
					}
					ratios = append(ratios, float64(used[1])/float64(used[0]))
					off = append(off, float64(used[0].Nanoseconds())/1e3/checks)
				}
			}
			b.ReportMetric(median(ratios), "on/off")
			b.ReportMetric(median(off), "µs-off/check")
		})
	}
}

// withAndWithoutLog starts two servers over the same keys, of which the second has a decision log.
func withAndWithoutLog(b *testing.B) (servers []*process) {
	b.Helper()
	dir := b.TempDir()
	keys := filepath.Join(dir, "keys.yaml")
	if err := os.WriteFile(keys, []byte(keyFile(secretOne)), 0o600); err != nil {
		b.Fatal(err)
	}
	for i, more := range []string{"", "decision_log: {path: " + filepath.Join(dir, "decisions.log") + "}\n"} {
		file := filepath.Join(dir, strconv.Itoa(i)+".yaml")
		if err := os.WriteFile(file, []byte(local+"log: {level: info}\nstore: {yaml: {path: "+keys+"}}\n"+more), 0o600); err != nil {
			b.Fatal(err)
		}
		servers = append(servers, serving(b, start(b, "serve", "--config", file)))
	}
	return servers
}

// askOften sends n requests, of which each refused-th is refused.
func askOften(b *testing.B, conn *grpc.ClientConn, refused, n int) {
	allowed, other, resp := checkRequest(b, secretOne, "10.1.2.3"), checkRequest(b, secretOne, "11.1.2.3"), message(b, "CheckResponse")
	for i := range n {
		req := allowed
		if refused > 0 && i%refused == 0 {
			req = other
		}
		if err := conn.Invoke(b.Context(), "/envoy.service.auth.v3.Authorization/Check", req, resp, grpc.WaitForReady(true)); err != nil {
			b.Error(err)
			return
		}
	}
}

// cpuTime returns the CPU time of the process's threads, from /proc/PID/task/*/schedstat.
func cpuTime(b *testing.B, p *process) (total time.Duration) {
	b.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(p.Pid()) + "/task/*/schedstat")
	if err != nil || len(files) == 0 {
		b.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total += time.Duration(ns)
	}
	return total
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
