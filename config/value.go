package config

import (
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// The readers in this file read one value each, and leave the target unchanged if the value is
// invalid. Their errors show the value as written in the file, never the value of a variable.

// value reads n and reports whether it is valid.
func value[T any](r *reader, n *yaml.Node, read func(*yaml.Node) T) (T, bool) {
	before := len(r.Errors)
	v := read(n)
	return v, len(r.Errors) == before
}

// written returns a scalar as written in the file.
func written(n *yaml.Node) string {
	if n.Kind == yaml.AliasNode {
		return n.Alias.Value
	}
	return n.Value
}

// empty reports whether a list has no items.
func empty(n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return len(n.Content) == 0
}

func (r *reader) address(n *yaml.Node, parse func(string) (Address, error), to *Address) {
	s, ok := value(r, n, r.Plain)
	if !ok {
		return
	}
	a, err := parse(s)
	if err != nil {
		r.Errorf(n, "%q: %v", written(n), err)
		return
	}
	*to = a
}

func (r *reader) oneOf(n *yaml.Node, to *string, options ...string) {
	s, ok := value(r, n, r.String)
	if !ok {
		return
	}
	if !slices.Contains(options, s) {
		r.Errorf(n, "%q is not a supported value: write %s", written(n), strings.Join(options, " or "))
		return
	}
	*to = s
}

func (r *reader) number(n *yaml.Node, to *int, low, high int64) {
	v, ok := value(r, n, r.Int)
	if !ok {
		return
	}
	if v < low || v > high {
		r.Errorf(n, "%s is out of range: write a whole number from %d to %d", written(n), low, high)
		return
	}
	*to = int(v)
}

func (r *reader) duration(n *yaml.Node, to *time.Duration, low, high time.Duration) {
	v, ok := value(r, n, r.Duration)
	if !ok {
		return
	}
	if v < low || v > high {
		r.Errorf(n, "%s is out of range: write a duration from %s to %s", written(n), low, high)
		return
	}
	*to = v
}
