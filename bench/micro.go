package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// A micro is a Go benchmark of the code itself.
type micro struct {
	Name   string `json:"name"`
	Nanos  series `json:"ns"`
	Allocs series `json:"allocations"`
}

// The micro-benchmarks that have targets.
const (
	microAuthorize = "BenchmarkAuthorize/cached/allow"
	microCheck     = "BenchmarkCheckBytes/wire/allow"
)

var benchLine = regexp.MustCompile(`^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op.*?(\d+) allocs/op`)

// micros runs the benchmarks of the packages, once per round.
func micros(ctx context.Context, rounds int) ([]*micro, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^(BenchmarkAuthorize|BenchmarkCheckBytes)$", "-benchmem",
		"-benchtime=200ms", "-count="+strconv.Itoa(rounds), "./authz", "./envoy")
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test: %w\n%s", err, out)
	}
	byName := map[string]*micro{}
	var all []*micro
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		m := benchLine.FindStringSubmatch(strings.TrimSpace(lines.Text()))
		if m == nil {
			continue
		}
		b := byName[m[1]]
		if b == nil {
			b = &micro{Name: m[1]}
			byName[m[1]], all = b, append(all, b)
		}
		nanos, _ := strconv.ParseFloat(m[2], 64)
		allocs, _ := strconv.ParseFloat(m[3], 64)
		b.Nanos.add(nanos)
		b.Allocs.add(allocs)
	}
	return all, nil
}
