package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// BenchmarkUsageCPU compares the CPU time of a check over gRPC with and without recording usage. It reloads
// the configuration of one server between measurements, because two processes differ by more than the cost of
// usage. It reports the median of the ratios. Run it with -benchtime=1x.
func BenchmarkUsageCPU(b *testing.B) {
	for _, keys := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) { benchmarkUsageCPU(b, keys) })
	}
}

func benchmarkUsageCPU(b *testing.B, keys int) {
	const addresses, rounds, each = 4, 25, 6000
	var text strings.Builder
	text.WriteString("keys:\n")
	for i := range keys {
		text.WriteString(record(manyID(i), manySecret(i)))
	}
	setting := func(on bool) string { return fmt.Sprintf("usage: {record: %t, flush: 10s, path: usage.db}\n", on) }
	server := newChecked(b, harness.StartExtauthz(b, harness.Settings{Keys: text.String(), Config: setting(false)}))
	file := filepath.Join(server.Dir, "extauthz.yaml")
	config, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	reloads := 0
	set := func(on bool) {
		writeFile(b, file+".new", strings.Replace(string(config), setting(false), setting(on), 1))
		if err := os.Rename(file+".new", file); err != nil {
			b.Fatal(err)
		}
		reloads++
		polltest.Until(b, "the configuration is reloaded", func() bool {
			return strings.Count(server.Log(), "reloaded the configuration") >= reloads
		})
	}
	// turn returns the CPU time of checks of random keys from random addresses.
	turn := func(n int, seed uint64) float64 {
		start := processTime(b, server.Pid())
		var wg sync.WaitGroup
		for w := range uint64(8) {
			wg.Go(func() {
				x := seed<<8 + w
				for range n / 8 {
					x = x*6364136223846793005 + 1442695040888963407
					if err := server.checkFrom(b, manySecret(int(x>>33%uint64(keys))), fmt.Sprintf("203.0.113.%d", x>>50%addresses)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return float64(processTime(b, server.Pid()) - start)
	}
	var ratios, times []float64
	for range b.N {
		for round := range uint64(rounds) {
			spent := map[bool]float64{}
			for _, on := range []bool{round%2 == 0, round%2 != 0} {
				if on != (round%2 == 0) || round == 0 {
					set(on)
				}
				turn(max(1000, min(3*keys*addresses, 40_000)), round) // until the buffer contains the addresses
				spent[on] = turn(each, round+1000)
			}
			ratios, times = append(ratios, spent[true]/spent[false]), append(times, spent[false]/each)
		}
	}
	slices.Sort(ratios)
	slices.Sort(times)
	b.ReportMetric(ratios[len(ratios)/2], "on/off")
	b.ReportMetric(times[len(times)/2], "ns/check")
}

// checkFrom checks a secret from an address.
func (c *checked) checkFrom(b *testing.B, secret keystore.Secret, from string) error {
	peer := &corev3.SocketAddress{Address: from, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 40000}}
	_, err := c.client.Check(b.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source: &authv3.AttributeContext_Peer{Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: peer}}},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "GET", Path: "/documents/17", Headers: map[string]string{":method": "GET", ":path": "/documents/17", "x-api-key": string(secret)},
		}},
	}})
	return err
}

// processTime returns the CPU time of a process, from the first numbers in /proc/PID/task/TID/schedstat.
func processTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		b.Fatal(err)
	}
	var total int64
	for _, f := range files {
		text, err := os.ReadFile(f)
		var n int64
		if _, scanErr := fmt.Sscan(string(text), &n); err != nil || scanErr != nil {
			b.Fatal(err, scanErr)
		}
		total += n
	}
	return time.Duration(total)
}
