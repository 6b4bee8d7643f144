package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
)

// BenchmarkDecisionLog measures the CPU time of a check with the decision log at its defaults, as
// a ratio of that without one. Both processes run side by side, in turns.
func BenchmarkDecisionLog(b *testing.B) {
	const rounds, checks, callers = 20, 8000, 4
	for _, bench := range []struct{ name, peer string }{{"allowed", "10.1.2.3"}, {"refused", "11.1.2.3"}} {
		b.Run(bench.name, func(b *testing.B) {
			dir := b.TempDir()
			keys := filepath.Join(dir, "keys.yaml")
			if err := os.WriteFile(keys, []byte(keyFile(secretOne)), 0o600); err != nil {
				b.Fatal(err)
			}
			configuration := local + "log: {level: info}\nstore: {yaml: {path: " + keys + "}}\n"
			var servers []*process
			for i, more := range []string{"", "decision_log: {path: " + filepath.Join(dir, "decisions.log") + "}\n"} {
				file := filepath.Join(dir, strconv.Itoa(i)+".yaml")
				if err := os.WriteFile(file, []byte(configuration+more), 0o600); err != nil {
					b.Fatal(err)
				}
				servers = append(servers, serving(b, start(b, "serve", "--config", file)))
			}
			used := make([]float64, len(servers))
			for b.Loop() {
				for round := range rounds {
					for turn := range servers {
						i := (turn + round) % len(servers)
						before := cpuTicks(b, servers[i])
						var wg sync.WaitGroup
						for range callers {
							wg.Go(func() { askOften(b, servers[i].conn, bench.peer, checks/callers) })
						}
						wg.Wait()
						used[i] += cpuTicks(b, servers[i]) - before
					}
				}
			}
			b.ReportMetric(used[1]/used[0], "on/off")
			b.ReportMetric(used[0]*10_000/float64(b.N*rounds*checks), "µs-off/check") // a tick is 10 ms
		})
	}
}

func askOften(b *testing.B, conn *grpc.ClientConn, peer string, n int) {
	req, resp := checkRequest(b, secretOne, peer), message(b, "CheckResponse")
	for range n {
		if err := conn.Invoke(b.Context(), "/envoy.service.auth.v3.Authorization/Check", req, resp, grpc.WaitForReady(true)); err != nil {
			b.Error(err)
			return
		}
	}
}

// cpuTicks returns the CPU time that the process has used, in hundredths of a second.
func cpuTicks(b *testing.B, p *process) float64 {
	b.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid()) + "/stat")
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return user + system
}
