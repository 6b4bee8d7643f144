package main

import (
	"errors"

	"github.com/spf13/cobra"

	"extauthz/authz"
	"extauthz/config"
	"extauthz/route"
)

// A routeFlags says what a route asks for: by its own words, as Envoy's context extensions do,
// or by a request for which the configuration has a rule.
type routeFlags struct {
	permissions, ratelimits string
	host, method, path      string
}

func (f *routeFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.permissions, "permissions", "", "what the route asks for, in place of a rule's, such as \"documents.read OR admin\"")
	cmd.Flags().StringVar(&f.ratelimits, "ratelimits", "", "what the request costs, in place of a rule's, such as \"exports=1\"")
	cmd.Flags().StringVar(&f.host, "host", "", "the request's host, to find the configuration's rule for it")
	cmd.Flags().StringVar(&f.method, "method", "GET", "the request's method")
	cmd.Flags().StringVar(&f.path, "path", "", "the request's path")
}

// demand fills in what the route asks for.
func (f *routeFlags) demand(cmd *cobra.Command, c *config.Config, r *authz.Request) error {
	r.Permissions, r.Ratelimits = f.permissions, f.ratelimits
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	if !given("host") && !given("method") && !given("path") {
		return nil
	}
	if !given("path") {
		return errors.New("--host and --method say for which request a rule is looked for: give --path too")
	}
	table, errs := route.New(c.Routes)
	if errs != nil {
		return errs[0]
	}
	if given("permissions") && given("ratelimits") {
		return nil
	}
	rule, err := table.Match(f.host, f.method, f.path)
	if r.RouteErr = err; rule == nil {
		return nil
	}
	if !given("permissions") {
		r.Permissions = rule.Permissions
	}
	if !given("ratelimits") {
		r.Ratelimits = rule.Ratelimits
	}
	return nil
}
