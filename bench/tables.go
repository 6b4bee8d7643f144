package main

import (
	"fmt"
	"slices"
	"strings"
)

// markdown returns the results as Markdown tables, which are readable on a terminal too.
func (r *results) markdown() string {
	var b strings.Builder
	m := r.Machine
	fmt.Fprintf(&b, "# Results\n\nWritten by `make bench` on %s: %s, %d cores, %.1f GiB, Linux %s; load average at the start %s.\n", m.Date, m.CPU, m.Cores, m.MemoryGB, m.Kernel, m.LoadAvg)
	for _, name := range slices.Sorted(slices.Values(keysOf(m.Versions))) {
		fmt.Fprintf(&b, "%s: %s. ", name, m.Versions[name])
	}
	b.WriteString("\n[How to read them](README.md).\n\n## Targets\n\n")
	rows := [][]string{{"what", "against", "is", "target", "at least", ""}}
	for _, t := range r.Targets {
		rows = append(rows, []string{t.What, t.Against, number(t.Is), number(t.Target), number(t.Limit), t.state()})
	}
	table(&b, rows)
	b.WriteString("\n## Checks over gRPC\n\n")
	directTable(&b, r.Direct, r.cpu(nameStock), "of stock")
	b.WriteString("\n## Growth\n\n")
	directTable(&b, r.Growth, r.cpu(nameStock), "of stock")
	b.WriteString("\n## Through one Envoy worker\n")
	r.envoyTable(&b, "At saturation", nameStock, func(c *envoyCase) *flow { return &c.Saturation })
	r.envoyTable(&b, "At half of it", nameStock, func(c *envoyCase) *flow { return &c.Half })
	b.WriteString("\n## Memory\n\n")
	rows = [][]string{{"process", "resident MiB"}}
	for _, m := range r.Memory {
		rows = append(rows, []string{m.Name, fmt.Sprintf("%.0f", m.MiB)})
	}
	table(&b, rows)
	b.WriteString("\n## From a key's change to its effect\n\n")
	rows = [][]string{{"where", "ms", "slowest"}}
	for _, c := range r.Changes {
		rows = append(rows, []string{c.Name, number(c.Took.Median), number(slices.Max(c.Took.Rounds))})
	}
	table(&b, rows)
	fmt.Fprintf(&b, "\n## While a key file of %d keys is read again\n\n", r.Reload.Keys)
	fmt.Fprintf(&b, "At %d checks/s: p99 %s µs at rest, %s µs meanwhile; it takes effect after %s ms.\n", r.Reload.Rate, number(r.Reload.AtRest.Median), number(r.Reload.During.Median), number(r.Reload.Took.Median))
	b.WriteString("\n## The code itself\n\n")
	rows = [][]string{{"benchmark", "ns", "fastest", "allocations"}}
	for _, m := range r.Micro {
		rows = append(rows, []string{strings.TrimPrefix(m.Name, "Benchmark"), number(m.Nanos.Median), number(slices.Min(m.Nanos.Rounds)), number(m.Allocs.Median)})
	}
	table(&b, rows)
	return b.String()
}

func keysOf(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}

func directTable(b *strings.Builder, cases []*directCase, floor float64, of string) {
	rows := [][]string{{"server", "server CPU, µs a check", of, "checks/s"}}
	for _, c := range cases {
		rows = append(rows, []string{c.Name, fmt.Sprintf("%.1f", c.CPU.Median), fmt.Sprintf("%.2f", c.CPU.Median/floor), fmt.Sprintf("%.0f", c.Rate.Median)})
	}
	table(b, rows)
}

// envoyTable writes the results through Envoy, with ratios to the rate of the case floor.
func (r *results) envoyTable(b *strings.Builder, title, floor string, of func(*envoyCase) *flow) {
	fmt.Fprintf(b, "\n%s:\n\n", title)
	rows := [][]string{{"", "requests/s", "of " + strings.Split(floor, ",")[0], "p50 µs", "p99 µs", "p99.9 µs", "server CPU µs", "Envoy CPU µs"}}
	rate := r.rate(floor)
	for _, c := range r.Envoy {
		f := of(c)
		ratio := fmt.Sprintf("%.2f", c.Saturation.Rate.Median/rate)
		rows = append(rows, []string{c.Name, fmt.Sprintf("%.0f", f.Rate.Median), ratio, number(f.P50.Median), number(f.P99.Median), number(f.P999.Median), number(f.ServerCPU.Median), number(f.EnvoyCPU.Median)})
	}
	table(b, rows)
}

// number formats about three significant digits.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v == float64(int(v)):
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// table writes rows with aligned columns. The first row is the header.
func table(b *strings.Builder, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(" ", width[i]-len([]rune(cell))))
		}
		b.WriteString("|\n")
		if n == 0 {
			for i := range row {
				b.WriteString("|" + strings.Repeat("-", width[i]+2))
			}
			b.WriteString("|\n")
		}
	}
}
