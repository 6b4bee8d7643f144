package main

import (
	"errors"
	"math"
	"testing"

	"extauthz/config"
)

func TestMemorySettings(t *testing.T) {
	const gib = 1 << 30
	in := func(bytes uint64) func() (uint64, error) { return func() (uint64, error) { return bytes, nil } }
	free := func() (uint64, error) { return 0, errors.New("no limit") }
	for _, c := range []struct {
		name      string
		memory    config.Memory
		env       map[string]string
		container func() (uint64, error)
		limit     int64
		percent   int
	}{
		{"no container", config.Memory{}, nil, free, math.MaxInt64, 100},
		{"a container", config.Memory{}, nil, in(gib), gib / 10 * 9, 400},
		{"a container that says no more than that it has all", config.Memory{}, nil, in(math.MaxUint64), math.MaxInt64, 100},
		{"a size wins over the container's", config.Memory{Limit: gib / 2}, nil, in(gib), gib / 2, 400},
		{"none wins over the container's", config.Memory{Limit: config.NoLimit}, nil, in(gib), math.MaxInt64, 100},
		{"a percentage", config.Memory{GCPercent: 50}, nil, in(gib), gib / 10 * 9, 50},
		{"GOMEMLIMIT wins", config.Memory{Limit: gib}, map[string]string{"GOMEMLIMIT": "2GiB"}, in(gib), 0, 400},
		{"GOMEMLIMIT can be off", config.Memory{}, map[string]string{"GOMEMLIMIT": "off"}, in(gib), 0, 100},
		{"GOGC wins", config.Memory{GCPercent: 50}, map[string]string{"GOGC": "75"}, free, math.MaxInt64, 0},
	} {
		limit, percent := memorySettings(c.memory, func(name string) string { return c.env[name] }, c.container)
		if limit != c.limit || percent != c.percent {
			t.Errorf("%s: limit %d, %d %%; want %d, %d %%", c.name, limit, percent, c.limit, c.percent)
		}
	}
}
