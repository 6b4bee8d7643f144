//go:build mistake

package main

import (
	"extauthz/check"
	"extauthz/envoymodule"
)

// With this build tag, which only a test sets, each check runs into a nil pointer, for which the operating
// system signals a fault on Envoy's own thread.
func init() {
	filters.Start = func(source envoymodule.Source) (envoymodule.Backend, error) {
		b, err := start(source)
		return mistaken{b}, err
	}
}

type mistaken struct{ envoymodule.Backend }

func (mistaken) Checker() *check.Checker {
	var none **check.Checker
	return *none
}
