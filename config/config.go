// Package config is the server's configuration: what can be set, what each setting means and
// what it is when it is not set. It reads the YAML strictly and starts nothing.
package config

import (
	"log/slog"
	"net/netip"
	"time"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/permission"
	"extauthz/route"
	"extauthz/strictyaml"
)

// A Config is everything that can be set. Its fields are the fields of the file, in
// snake_case. Any text in the file may hold ${NAME}, which stands for that environment
// variable; $${ stands for ${ itself.
type Config struct {
	// Listen is where the gRPC server listens: host:port or unix:/path.
	// Default: 127.0.0.1:9191.
	Listen Address

	Socket        Socket // who may connect where listen or admin.listen is unix:/path
	TLS           TLS    // of the gRPC listener; tls in the file
	Admin         Admin
	KeySources    []check.KeySource // where the secret is looked for, in order; default: header x-api-key
	ForwardKey    bool              // whether the secret goes on to the upstream; default: false
	ClientAddress ClientAddress

	// SetPath removes a secret from the query by setting :path, which leaves the rest of it as it
	// is. Set it to false for an Envoy whose decoder_header_mutation_rules do not allow :path:
	// Envoy then removes the parameter, and sorts the others. Default: true.
	SetPath bool

	Store Store
	Cache Cache

	// Roles says what permissions the roles of keys stand for. Default: none.
	Roles permission.Roles

	// Routes says what routes ask of keys, where Envoy's context extensions do not:
	// [{hosts: […], path_prefix: /admin, ignore_case: true, methods: […], permissions: "…",
	// ratelimits: "…"}]. A rule without ignore_case takes that of paths.
	// Default: none.
	Routes []route.Rule

	Paths Paths

	// ExternalIDs says what keys with an external_id have in common: external_ids:
	// {acme: {ratelimits: […]}}. Default: none.
	ExternalIDs map[string]ExternalID

	Ratelimit Ratelimit
	Usage     Usage
	Dashboard Dashboard

	DecisionLog DecisionLog

	// DryRun lets every request through, whatever is decided, and logs, counts and puts into the
	// dynamic metadata what would have been refused. Default: false.
	DryRun bool

	// Statuses replaces the HTTP status of refusals, each from 400 to 599, such as
	// {EXPIRED: 403}. Default: none replaced.
	Statuses map[authz.Code]int

	Metrics  Metrics
	Log      Log
	Shutdown Shutdown
	GRPC     GRPC // grpc in the file
	Memory   Memory

	// Warnings are settings that are allowed, but probably a mistake. It is not a field of the file.
	Warnings strictyaml.Errors

	// Files are the files that were read: that of the configuration, if any, and those it names for
	// ranges. It is not a field of the file.
	Files []string
}

// Admin is the listener of /healthz, /readyz and /metrics.
type Admin struct {
	// Listen is host:port, unix:/path, or none for no such listener. What it serves is not
	// secret, but is not for callers either. Default: 127.0.0.1:9192.
	Listen Address

	// Pprof also serves /debug/pprof, which shows where time and memory go. A profile costs
	// CPU time, and shows the names of what runs, not what is held. Default: false.
	Pprof bool
}

// ClientAddress says how the one address is found that whitelists are held against.
type ClientAddress struct {
	// From is peer (the connection's other end, never a header), x_forwarded_for, or header.
	// Default: peer.
	From string

	// TrustedProxies, with x_forwarded_for, lists the proxies whose entries are believed.
	// Exactly one of TrustedProxies and TrustedHops is set then. With header, it lists the
	// peers from which the header is believed. Default: any peer. An item may also name a file
	// with an address or CIDR range on each line: {file: cdn-ranges.txt}.
	TrustedProxies []netip.Prefix

	// TrustedHops, with x_forwarded_for, is the number of proxies in front of Envoy, counted
	// as Envoy's xff_num_trusted_hops; from 1 to 100.
	TrustedHops int

	// XFFAppended, with trusted_hops, says whether Envoy itself appends to
	// x-forwarded-for (use_remote_address: true). xff_appended in the file. Default: true.
	XFFAppended bool

	// Header, with from: header, is the one header that the operator's own proxy sets and
	// overwrites; in lower case.
	Header string

	// Ports, with x_forwarded_for or header, accepts addresses with a port, such as
	// 203.0.113.7:51008 and [2001:db8::7]:443, which Azure's Application Gateway writes.
	// Default: false.
	Ports bool
}

// Source returns the source that c describes.
func (c ClientAddress) Source() check.AddressSource {
	format := check.WithoutPort
	if c.Ports {
		format = check.WithPort
	}
	switch {
	case c.From == FromHeader:
		return check.AddressHeader(c.Header, c.TrustedProxies, format)
	case c.From == FromXForwardedFor && len(c.TrustedProxies) > 0:
		return check.TrustedProxies(c.TrustedProxies, format)
	case c.From == FromXForwardedFor:
		return check.TrustedHops(c.TrustedHops, c.XFFAppended, format)
	}
	return check.Peer()
}

// The values of [ClientAddress.From].
const (
	FromPeer          = "peer"
	FromXForwardedFor = "x_forwarded_for"
	FromHeader        = "header"
)

// Paths says how the upstreams read paths.
type Paths struct {
	// IgnoreCase compares the path_prefix of every rule without case, but of those that have an
	// ignore_case of their own. Set it where an upstream serves /admin as /Admin too, as IIS and
	// ASP.NET do, and many file servers: a rule is otherwise passed by another spelling.
	// Default: false.
	IgnoreCase bool
}

// Metrics says what the admin listener's /metrics show beyond the rest.
type Metrics struct {
	// Owners is how many owners (external_id) have their decisions counted separately, from 0 to
	// 1000: the first that the server sees after its start. All others are counted together. Each
	// owner costs as many series as it has codes. Default: 0, none.
	Owners int
}

// Log says what is logged, on standard error.
type Log struct {
	Level  slog.Level // debug, info, warn or error; default: info
	Format string     // text or json; default: text

	// Decisions is sampled, which writes a few lines of each code and key in ten seconds and counts
	// the rest, or all, which writes one line for each refusal. Allowed requests are logged at the
	// level debug, each. Default: sampled.
	Decisions string
}

// The values of [Log.Decisions].
const (
	LogSampled = "sampled"
	LogAll     = "all"
)

// Shutdown says how the server stops on SIGTERM or SIGINT.
type Shutdown struct {
	// Drain is how long it goes on serving while its health says NOT_SERVING, so that Envoy
	// sees it and goes elsewhere. Default: 5s.
	Drain time.Duration

	// Timeout is how long requests in flight may take after that. Default: 20s.
	Timeout time.Duration
}

// GRPC bounds the gRPC server.
type GRPC struct {
	// MaxMessageSize is the largest check request that is read, in bytes, from 1024. It grows
	// with Envoy's with_request_body, whose max_request_bytes bounds what a caller can send: a
	// larger check is received all the same, and refused. Default: 67108864 (64 MiB), which no
	// request reaches by its headers, nor by a body that Envoy buffers by default (1 MiB).
	MaxMessageSize int

	// MaxConnectionAge closes a connection, gracefully, when it is so old, so that Envoys
	// spread over new replicas behind a plain TCP load balancer. 0 for never. Default: 0s.
	MaxConnectionAge time.Duration
}

// Default returns the configuration of an empty file: complete but for the store.
func Default() *Config {
	return &Config{
		Listen:        Address{Network: "tcp", Address: "127.0.0.1:9191"},
		Admin:         Admin{Listen: Address{Network: "tcp", Address: "127.0.0.1:9192"}},
		Socket:        Socket{Mode: 0o660},
		KeySources:    check.DefaultKeySources(),
		SetPath:       true,
		ClientAddress: ClientAddress{From: FromPeer, XFFAppended: true},
		Cache:         defaultCache(),
		Ratelimit:     Ratelimit{Store: LimitsInMemory, Timeout: 50 * time.Millisecond},
		Usage:         Usage{Retention: 720 * time.Hour, Flush: 10 * time.Second, AddressesPerKey: 256},
		Dashboard:     Dashboard{Listen: Address{Network: "tcp", Address: "127.0.0.1:9194"}, Login: LoginByToken, OIDC: OIDC{Scopes: []string{"email", "profile"}}},
		DecisionLog:   defaultDecisionLog(),
		Log:           Log{Level: slog.LevelInfo, Format: "text", Decisions: LogSampled},
		Shutdown:      Shutdown{Drain: 5 * time.Second, Timeout: 20 * time.Second},
		GRPC:          GRPC{MaxMessageSize: 64 << 20},
	}
}
