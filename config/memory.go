package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"extauthz/strictyaml"
)

// Memory configures how the garbage collector trades memory for CPU time. The environment
// variables GOMEMLIMIT and GOGC, if set, override its fields, as usual for Go programs.
type Memory struct {
	// Limit is the soft limit on the memory of the process: the closer the process comes to it,
	// the more often garbage is collected. It is a size such as 512MiB, none, or auto for 90 % of
	// the container's limit, if it has one. Default: auto.
	Limit MemoryLimit

	// GCPercent is how much memory may grow, in percent of the memory in use, before garbage is
	// collected: from 10 to 10000, or auto, which is 400 if there is a limit. Without one, auto
	// lets memory grow by 64 MiB, but by 100 to 400 percent. gc_percent in the file.
	// Default: auto, here 0.
	GCPercent int
}

// A MemoryLimit is a number of bytes, or one of [AutoLimit] and [NoLimit].
type MemoryLimit int64

// The limits that are not sizes.
const (
	AutoLimit MemoryLimit = 0
	NoLimit   MemoryLimit = -1
)

const minMemory = 32 << 20 // with less, garbage is collected all the time

var errMemoryLimit = errors.New("not a limit: write a size such as 512MiB or 2GiB, auto, or none")

// ParseMemoryLimit parses auto, none, or a whole number with KiB, MiB or GiB, from 32MiB.
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

// parseSize parses a whole number with KiB, MiB or GiB, and returns it in bytes.
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
