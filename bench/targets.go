package main

import "slices"

// A target is a goal for a ratio or another figure of a run.
type target struct {
	What    string  `json:"what"`
	Against string  `json:"against"`
	Is      float64 `json:"is"`
	Target  float64 `json:"target"`
	Limit   float64 `json:"at_least"` // still acceptable
	More    bool    `json:"more_is_better"`
}

// state says whether the target is met.
func (t target) state() string {
	met := func(line float64) bool { return t.Is <= line && !t.More || t.Is >= line && t.More }
	switch {
	case met(t.Target):
		return "met"
	case met(t.Limit):
		return "good enough"
	}
	return "missed"
}

func (r *results) cpu(name string) float64 {
	for _, c := range slices.Concat(r.Direct, r.Growth) {
		if c.Name == name {
			return c.CPU.Median
		}
	}
	return 0
}

func (r *results) rate(name string) float64 {
	for _, c := range r.Envoy {
		if c.Name == name {
			return c.Saturation.Rate.Median
		}
	}
	return 0
}

// micro returns the fastest round: other load on the machine only makes it slower.
func (r *results) micro(name string) (nanos, allocs float64) {
	for _, m := range r.Micro {
		if m.Name == name {
			return slices.Min(m.Nanos.Rounds), m.Allocs.Median
		}
	}
	return 0, 0
}

func (r *results) targets(p plan) []target {
	authorize, _ := r.micro(microAuthorize)
	_, allocs := r.micro(microCheck)
	return append([]target{
		{What: "server CPU per check, TCP, " + usual.String(), Against: nameStock, Is: r.cpu(nameTCP) / r.cpu(nameStock), Target: 0.60, Limit: 0.80},
		{What: "requests/s through one Envoy worker, unix socket", Against: nameStock, Is: r.rate(nameUnix) / r.rate(nameStock), Target: 1.15, Limit: 1.0, More: true},
		{What: "the same", Against: nameOPA, Is: r.rate(nameUnix) / r.rate(nameOPA), Target: 2.0, Limit: 1.6, More: true},
		{What: "CPU per check, " + postgresOf(p.million), Against: postgresOf(100), Is: r.cpu(postgresOf(p.million)) / r.cpu(postgresOf(100)), Target: 1.1, Limit: 1.25},
		{What: "CPU per check, " + rangesOf(50_000), Against: rangesOf(2), Is: r.cpu(rangesOf(50_000)) / r.cpu(rangesOf(2)), Target: 1.1, Limit: 1.25},
		{What: "refusing a random secret", Against: "allowing", Is: r.cpu(nameRandom) / r.cpu(nameTCP), Target: 1.0, Limit: 1.2},
		{What: "authz.Authorize, cached, in ns (fastest round)", Against: "–", Is: authorize, Target: 150, Limit: 300},
		{What: "whole check from bytes to bytes, allocations", Against: "–", Is: allocs, Target: 3, Limit: 8},
		{What: "p99 while a large key file reloads", Against: "p99 at rest", Is: r.Reload.During.Median / r.Reload.AtRest.Median, Target: 1.5, Limit: 2.0},
	}, r.insideTargets(p)...)
}
