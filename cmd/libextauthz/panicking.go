//go:build panicking

package main

import (
	"extauthz/check"
	"extauthz/envoymodule"
)

// With this build tag, which only a test sets, each check dereferences a nil pointer: the operating system
// signals a fault on Envoy's own thread.
func init() {
	filters.Start = func(source envoymodule.Source) (envoymodule.Backend, error) {
		b, err := start(source)
		return panicking{b}, err
	}
}

type panicking struct{ envoymodule.Backend }

func (panicking) Checker() *check.Checker {
	var none **check.Checker
	return *none
}
