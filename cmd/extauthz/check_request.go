package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"extauthz/check"
	"extauthz/keystore"
)

// requestFlags describe a request as Envoy would send it to the server. The route's requirements
// come from flags, as from Envoy's context extensions, or from the configuration's routes.
type requestFlags struct {
	ip, peer                string
	xff, headers            []string
	permissions, ratelimits string
	host, method, path      string
}

func (f *requestFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ip, "ip", "", `the client address, in place of what client_address would find; "" for one that could not be determined`)
	flags.StringVar(&f.peer, "peer", "", `the address of the connection to Envoy; "" for a unix socket`)
	flags.StringArrayVar(&f.xff, "xff", nil, "a line of x-forwarded-for, including what Envoy appended; repeatable")
	flags.StringArrayVar(&f.headers, "header", nil, "a header line of the request, as \"name: value\"; repeatable")
	flags.StringVar(&f.permissions, "permissions", "", "the permissions that the route requires, in place of the rule's, such as \"documents.read OR admin\"")
	flags.StringVar(&f.ratelimits, "ratelimits", "", "the cost of the request, in place of the rule's, such as \"exports=1\"")
	flags.StringVar(&f.host, "host", "", "the request's host, which selects a rule in the configuration")
	flags.StringVar(&f.method, "method", "GET", "the request's method")
	flags.StringVar(&f.path, "path", "", "the request's path")
}

// addressGiven reports whether --ip sets the client address, and whether flags set what the configured source
// reads.
func (f *requestFlags) addressGiven(cmd *cobra.Command) (ip, source bool) {
	given := cmd.Flags().Changed
	return given("ip"), given("peer") || given("xff") || given("header")
}

// clientAddr reads --ip.
func (f *requestFlags) clientAddr() (netip.Addr, error) {
	if f.ip == "" {
		return netip.Addr{}, nil
	}
	return parseAddress("--ip", f.ip)
}

func parseAddress(flag, s string) (netip.Addr, error) {
	p, err := keystore.ParseWhitelistEntry(s)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%s: %w", flag, err)
	case strings.Contains(s, "/"):
		return netip.Addr{}, fmt.Errorf("%s: %s is a range: write one address, such as %s", flag, s, p.Addr())
	}
	return p.Addr(), nil
}

// attributes returns the request, without its secret.
func (f *requestFlags) attributes(cmd *cobra.Command) (*check.Attributes, error) {
	given := cmd.Flags().Changed
	if (given("host") || given("method")) && !given("path") {
		return nil, errors.New("--host and --method require --path: give --path too")
	}
	a := &check.Attributes{Method: clean(f.method), Path: clean(f.path), Host: clean(f.host)}
	if f.peer != "" {
		addr, err := parseAddress("--peer", f.peer)
		if err != nil {
			return nil, err
		}
		a.Peer = addr.String()
	}
	for _, value := range f.xff {
		a.Headers = append(a.Headers, check.Field{Name: "x-forwarded-for", Value: clean(strings.TrimSpace(value))})
	}
	for _, line := range f.headers {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, errors.New("--header: want a name and a value: write one such as \"x-client-ip: 192.0.2.7\"")
		}
		a.Headers = append(a.Headers, check.Field{Name: clean(strings.ToLower(name)), Value: clean(strings.TrimSpace(value))})
	}
	if given("permissions") {
		a.Extensions = append(a.Extensions, check.Field{Name: "permissions", Value: f.permissions})
	}
	if given("ratelimits") {
		a.Extensions = append(a.Extensions, check.Field{Name: "ratelimits", Value: f.ratelimits})
	}
	return a, nil
}

// clean replaces bytes that are not UTF-8, as Envoy does before it sends a check.
func clean(s string) string { return strings.ToValidUTF8(s, "!") }
