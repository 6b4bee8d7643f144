package main

import (
	"fmt"
	"slices"
	"strings"
)

// A plot can be drawn as SVG.
type plot interface{ svg() string }

// plots returns the plots by the names of their files.
func (r *results) plots() map[string]plot {
	cpu := &bars{title: "Server CPU per check, over gRPC", unit: "µs"}
	for _, c := range r.Direct {
		cpu.add(c.Name, c.CPU.Median)
	}
	rate := &bars{title: "Requests through one Envoy worker", unit: "per second"}
	total := &bars{title: "CPU per request, Envoy and server, at half the rate", unit: "µs"}
	tail := &bars{title: "p99 at half the rate", unit: "µs"}
	for _, c := range r.Envoy {
		rate.add(c.Name, c.Saturation.Rate.Median)
		total.add(c.Name, c.Half.EnvoyCPU.Median+c.Half.ServerCPU.Median)
		tail.add(c.Name, c.Half.P99.Median)
	}
	ram := &bars{title: "Resident memory", unit: "MiB"}
	for _, m := range r.Memory {
		ram.add(m.Name, m.MiB)
	}
	effect := &bars{title: "From a key's change to its effect", unit: "ms"}
	for _, c := range r.Changes {
		effect.add(c.Name, c.Took.Median)
	}
	return map[string]plot{
		"cpu.svg": cpu, "rate.svg": rate, "total-cpu.svg": total, "p99.svg": tail, "memory.svg": ram, "change.svg": effect,
		"growth.svg": r.growth(),
	}
}

// growth plots the CPU time per check over the size that differs.
func (r *results) growth() *lines {
	p := &lines{title: "Server CPU per check, as keys and ranges grow", unit: "µs", over: "keys, or ranges on one key"}
	for _, kind := range []struct{ name, prefix, format string }{
		{"keys in a file", "key file, ", "key file, %d keys"},
		{"keys in Postgres, cached", "Postgres cached, ", "Postgres cached, %d keys"},
		{"ranges on the key", "", "%d ranges on the key"},
	} {
		var line [][2]float64
		for _, c := range slices.Concat(r.Direct, r.Growth) {
			n := 0
			if _, err := fmt.Sscanf(c.Name, kind.format, &n); err == nil && strings.HasPrefix(c.Name, kind.prefix) {
				line = append(line, [2]float64{float64(n), c.CPU.Median})
			}
		}
		p.names, p.points = append(p.names, kind.name), append(p.points, line)
	}
	return p
}
