package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Memory says how the garbage collector trades memory for CPU time. Where the environment
// variable GOMEMLIMIT or GOGC is set, it wins over the field: that is how Go programs are
// tuned from outside.
type Memory struct {
	// Limit is what the process is kept within, where what it holds fits: the nearer it comes,
	// the more CPU time is spent on it. A size such as 512MiB, auto for nine tenths of the
	// container's limit, if it has one, or none. Default: auto.
	Limit MemoryLimit

	// GCPercent is how much memory may grow, in percent of what is in use, before unused
	// memory is looked for: from 10 to 10000, or auto, which is 400 where a limit is known.
	// Where none is, it is what 64 MiB are, from 100 to 400. gc_percent in the file. Default: auto, here 0.
	GCPercent int
}

// A MemoryLimit is a number of bytes, or one of [AutoLimit] and [NoLimit].
type MemoryLimit int64

// What a limit can be beside a size.
const (
	AutoLimit MemoryLimit = 0
	NoLimit   MemoryLimit = -1
)

const minMemory = 32 << 20 // less than that is collected all the time

var errMemoryLimit = errors.New("not a limit: write a size such as 512MiB or 2GiB, auto, or none")

// ParseMemoryLimit reads auto, none, or a whole number with KiB, MiB or GiB, from 32MiB.
func ParseMemoryLimit(s string) (MemoryLimit, error) {
	switch s {
	case "auto":
		return AutoLimit, nil
	case "none":
		return NoLimit, nil
	}
	bytes, ok := parseSize(s)
	switch {
	case !ok:
		return 0, errMemoryLimit
	case bytes < minMemory:
		return 0, fmt.Errorf("too little: write at least %dMiB", minMemory>>20)
	}
	return MemoryLimit(bytes), nil
}

// parseSize reads a whole number with KiB, MiB or GiB, as bytes.
func parseSize(s string) (bytes int64, ok bool) {
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if digits, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(digits, 10, 32)
			return int64(n << (10 * (i + 1))), err == nil //nolint:gosec // at most 2^62
		}
	}
	return 0, false
}

func (r *reader) memory(n *yaml.Node) {
	r.Mapping(n, strictyaml.Fields{
		"limit": func(n *yaml.Node) {
			s, ok := value(r, n, r.Plain)
			if !ok {
				return
			}
			limit, err := ParseMemoryLimit(s)
			if err != nil {
				r.Errorf(n, "%q: %v", written(n), err)
				return
			}
			r.c.Memory.Limit = limit
		},
		"gc_percent": func(n *yaml.Node) {
			if written(n) != "auto" {
				r.number(n, &r.c.Memory.GCPercent, 10, 10_000)
			}
		},
	})
}
