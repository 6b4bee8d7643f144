// Package config defines and reads the server's configuration: its fields, their meanings and
// their defaults. It reads the YAML strictly and starts nothing.
package config

import (
	"log/slog"
	"net/netip"
	"time"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/permission"
	"extauthz/ratelimit"
	"extauthz/route"
	"extauthz/strictyaml"
	"extauthz/usage"
)

// A Config holds all settings. Its fields are those of the file, where they are in snake_case.
// Any text in the file may contain ${NAME}, which is replaced with that environment variable;
// $${ is replaced with ${.
type Config struct {
	// Listen is where the gRPC server listens: host:port or unix:/path.
	// Default: 127.0.0.1:9191.
	Listen Address

	Socket        Socket // who may connect where listen or admin.listen is unix:/path
	TLS           TLS    // of the gRPC listener; tls in the file
	Admin         Admin
	KeySources    []check.KeySource // where to look for the secret, in order; default: header x-api-key
	ForwardKey    bool              // whether to forward the secret to the upstream; default: false
	ClientAddress ClientAddress

	// SetPath removes a secret from the query by setting :path, which leaves the rest of the query
	// unchanged. Set it to false for an Envoy whose decoder_header_mutation_rules do not allow
	// :path: Envoy then removes the parameter, and sorts the others. Default: true.
	SetPath bool

	Store Store
	Cache Cache

	// Roles maps the roles of keys to the permissions that they grant. Default: none.
	Roles permission.Roles

	// Routes are the rules for what routes require of keys, for requests whose context extensions
	// in Envoy do not say it: [{hosts: […], path_prefix: /admin, ignore_case: true, methods: […],
	// permissions: "…", ratelimits: "…"}]. A rule without ignore_case inherits that of paths.
	// Default: none.
	Routes []route.Rule

	Paths Paths

	// ExternalIDs holds what all keys with an external_id share: external_ids:
	// {acme: {ratelimits: […]}}. Default: none.
	ExternalIDs map[string]ExternalID

	Ratelimit Ratelimit
	Usage     Usage
	Dashboard Dashboard
	Audit     Audit

	DecisionLog DecisionLog
	Tracing     Tracing

	// DryRun lets every request through, and reports those that would have been refused in the
	// log, the metrics and the dynamic metadata. Default: false.
	DryRun bool

	// Statuses overrides the HTTP statuses of refusals, each from 400 to 599, such as
	// {EXPIRED: 403}. Default: none.
	Statuses map[authz.Code]int

	Metrics  Metrics
	Log      Log
	Shutdown Shutdown
	GRPC     GRPC // grpc in the file
	Memory   Memory

	// Warnings are settings that are allowed, but probably a mistake. It is not a field of the file.
	Warnings strictyaml.Errors

	// Files are the files that were read: the configuration file, if any, and the files of ranges
	// that it names. It is not a field of the file.
	Files []string
}

// Admin is the listener of /healthz, /readyz and /metrics.
type Admin struct {
	// Listen is host:port, unix:/path, or none for no such listener. What it serves is not
	// secret, but should not be exposed to callers. Default: 127.0.0.1:9192.
	Listen Address

	// Pprof also serves /debug/pprof, which shows the use of time and memory. A profile costs CPU
	// time. It shows the names of functions, not data. Default: false.
	Pprof bool
}

// ClientAddress configures how the client address is found, which whitelists are checked against.
type ClientAddress struct {
	// From is peer (the other end of the connection, never a header), x_forwarded_for, or header.
	// Default: peer.
	From string

	// TrustedProxies, with x_forwarded_for, lists the proxies whose entries are trusted; exactly
	// one of TrustedProxies and TrustedHops must be set. With header, it lists the peers from
	// which the header is trusted. Default: any peer. An item may also name a file with an
	// address or CIDR range on each line: {file: cdn-ranges.txt}.
	TrustedProxies []netip.Prefix

	// TrustedHops, with x_forwarded_for, is the number of proxies in front of Envoy, counted
	// as Envoy's xff_num_trusted_hops; from 1 to 100.
	TrustedHops int

	// XFFAppended, with trusted_hops, says whether Envoy itself appends to
	// x-forwarded-for (use_remote_address: true). xff_appended in the file. Default: true.
	XFFAppended bool

	// Header, with from: header, is the header that the operator's own proxy sets and overwrites,
	// in lower case.
	Header string

	// Ports, with x_forwarded_for or header, accepts addresses with a port, such as
	// 203.0.113.7:51008 and [2001:db8::7]:443, which Azure's Application Gateway writes.
	// Default: false.
	Ports bool
}

// Source returns the address source that c describes.
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

// Paths describes how the upstreams interpret paths.
type Paths struct {
	// IgnoreCase compares the path_prefix of every rule case-insensitively, unless the rule sets
	// its own ignore_case. Set it if an upstream also serves /admin as /Admin, as IIS, ASP.NET and
	// many file servers do: otherwise, another spelling bypasses the rule.
	// Default: false.
	IgnoreCase bool
}

// Metrics configures optional metrics.
type Metrics struct {
	// Owners is how many owners (external_id) have their decisions counted separately, from 0 to
	// 1000: the first that the server sees after its start. All others are counted together. Each
	// owner costs as many series as it has codes. Default: 0, none.
	Owners int
}

// Log configures the log, which is written to standard error.
type Log struct {
	Level  slog.Level // debug, info, warn or error; default: info
	Format string     // text or json; default: text

	// Decisions is sampled, which logs a few refusals of each code and key in ten seconds and
	// counts the rest, or all, which logs every refusal. Every allowed request is logged at the
	// level debug. Default: sampled.
	Decisions string
}

// The values of [Log.Decisions].
const (
	LogSampled = "sampled"
	LogAll     = "all"
)

// Shutdown configures how the server stops on SIGTERM or SIGINT.
type Shutdown struct {
	// Drain is how long the server continues to serve while its health is NOT_SERVING, so that
	// Envoy can move to another server. Default: 5s.
	Drain time.Duration

	// Timeout is how long requests in flight may take after that. Default: 20s.
	Timeout time.Duration
}

// GRPC limits the gRPC server.
type GRPC struct {
	// MaxMessageSize is the size of the largest check request that is read, in bytes, from 1024.
	// A larger request is refused. Requests grow with Envoy's with_request_body, whose
	// max_request_bytes limits what a caller can send. Default: 67108864 (64 MiB), which neither
	// headers nor a body that Envoy buffers by default (1 MiB) can reach.
	MaxMessageSize int

	// MaxConnectionAge is the age at which a connection is closed gracefully, so that Envoys
	// spread over new replicas behind a plain TCP load balancer. 0 for never. Default: 0s.
	MaxConnectionAge time.Duration
}

// Default returns the configuration of an empty file. It is complete except for the store.
func Default() *Config {
	return &Config{
		Listen:        Address{Network: "tcp", Address: "127.0.0.1:9191"},
		Admin:         Admin{Listen: Address{Network: "tcp", Address: "127.0.0.1:9192"}},
		Socket:        Socket{Mode: 0o660},
		KeySources:    check.DefaultKeySources(),
		SetPath:       true,
		ClientAddress: ClientAddress{From: FromPeer, XFFAppended: true},
		Cache:         defaultCache(),
		Ratelimit:     Ratelimit{Store: LimitsInMemory, Timeout: ratelimit.DefaultTimeout},
		Usage:         Usage{Retention: 720 * time.Hour, Flush: usage.DefaultFlush, AddressesPerKey: usage.DefaultAddressesPerKey},
		Dashboard:     Dashboard{Listen: Address{Network: "tcp", Address: "127.0.0.1:9194"}, Login: LoginByToken, OIDC: OIDC{Scopes: []string{"email", "profile"}}},
		Audit:         Audit{Path: AuditNowhere},
		DecisionLog:   defaultDecisionLog(),
		Tracing:       Tracing{Endpoint: NoTracing, Protocol: OTLPOverGRPC},
		Log:           Log{Level: slog.LevelInfo, Format: "text", Decisions: LogSampled},
		Shutdown:      Shutdown{Drain: 5 * time.Second, Timeout: 20 * time.Second},
		GRPC:          GRPC{MaxMessageSize: 64 << 20},
	}
}
