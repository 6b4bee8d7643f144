package config

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"gopkg.in/yaml.v3"

	"extauthz/authz"
	"extauthz/files"
	"extauthz/strictyaml"
)

// Overrides holds settings of the command line. Those that are not empty override the file.
type Overrides struct {
	Keys   string // a YAML store's path, from the working directory; replaces the whole store
	Listen string
	Admin  string

	// InProcess reads the configuration for a front end that calls the checker itself: listen and tls
	// have no effect.
	InProcess bool

	// Text, if not empty, replaces the text of the file. Errors contain the path, and relative paths start
	// from its folder.
	Text string
}

// Load reads the configuration at path, or uses the defaults if path is "", and applies the
// overrides. Its error is a [strictyaml.Errors] that holds all mistakes. Errors never contain the
// values of environment variables. With an error, the Config holds what could be read.
func Load(path string, o Overrides) (*Config, error) {
	r := &reader{c: Default()}
	if path != "" {
		r.WhenEmpty = "write at least `store: {yaml: {path: keys.yaml}}`"
		r.File, r.Expand = path, func(s string) (string, error) { return expand(s, os.LookupEnv) }
		if o.Text == "" {
			r.c.Files = []string{path}
		}
		r.file(o.Text)
	}
	r.override(o)
	if o.InProcess {
		r.c.Listen, r.c.TLS = Address{}, TLS{}
		if r.c.Memory.Limit == AutoLimit {
			r.c.Memory.Limit = NoLimit // the container's limit is not for this part of the process alone
		}
	} else {
		r.checkListeners(o)
	}
	r.checkUsage()
	r.checkDashboard()
	r.warn(o)
	slices.SortStableFunc(r.Errors, func(a, b *strictyaml.Error) int {
		return cmp.Or(cmp.Compare(r.rank(a), r.rank(b)), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	r.c.Warnings = r.Warnings
	return r.c, r.Err()
}

// rank orders errors: those of flags, of the configuration, and of files that it names.
func (r *reader) rank(e *strictyaml.Error) int {
	switch {
	case e.Line == 0:
		return 0
	case e.File == r.File:
		return 1
	}
	return 2
}

// A reader fills a Config from one file.
type reader struct {
	strictyaml.Decoder
	c    *Config
	root *yaml.Node // nil if there is no file, or no fields in it

	hasStore    bool       // the file has a store field, even if it is invalid
	addressFrom *yaml.Node // the header that client_address reads, if it reads one
	listen      *yaml.Node // if the file has it
	adminListen *yaml.Node // if the file has it
	socketNode  *yaml.Node // if the file has it
	usageNode   *yaml.Node // if the file has it

	dashboardNode *yaml.Node // if the file has it
	routeNodes    []routeNode
}

// file reads text, or the file if that is empty.
func (r *reader) file(text string) {
	data := []byte(text)
	if text == "" {
		var err error
		if data, err = files.Read(r.File); err != nil {
			r.Errorf(nil, "the configuration cannot be read: %v", err)
			return
		}
	}
	root := r.Parse(data)
	if root == nil {
		return
	}
	if r.Mapping(root, strictyaml.Fields{
		"listen":         func(n *yaml.Node) { r.listen = n; r.address(n, ParseAddress, &r.c.Listen) },
		"socket":         r.socket,
		"tls":            r.tls,
		"admin":          r.admin,
		"key_sources":    r.keySources,
		"forward_key":    func(n *yaml.Node) { r.c.ForwardKey = r.Bool(n) },
		"client_address": r.clientAddress,
		"set_path":       func(n *yaml.Node) { r.c.SetPath = r.Bool(n) },
		"store":          r.store,
		"cache":          r.cache,
		"roles":          r.roles,
		"routes":         r.routes,
		"paths":          r.paths,
		"external_ids":   r.externalIDs,
		"ratelimit":      r.ratelimit,
		"dry_run":        r.dryRun,
		"statuses":       r.statuses,
		"metrics":        r.metrics,
		"log":            r.log,
		"shutdown":       r.shutdown,
		"grpc":           r.grpc,
		"memory":         r.memory,
		"usage":          r.usage,
		"dashboard":      r.dashboard,
		"audit":          r.audit,
		"decision_log":   r.decisionLog,
		"tracing":        r.tracing,
	}) {
		r.root = root
		r.apart()
		r.checkRoutes()
	}
}

func (r *reader) override(o Overrides) {
	flag := func(name, value string, parse func(string) (Address, error), to *Address) {
		if value == "" {
			return
		}
		a, err := parse(value)
		if err != nil {
			r.Errors = append(r.Errors, &strictyaml.Error{File: name, Message: fmt.Sprintf("%q: %v", value, err)})
			return
		}
		*to = a
	}
	flag("--listen", o.Listen, ParseAddress, &r.c.Listen)
	flag("--admin", o.Admin, parseAdminAddress, &r.c.Admin.Listen)
	switch {
	case o.Keys != "":
		r.c.Store = Store{YAML: &YAMLStore{Path: o.Keys}}
	case r.File == "":
		r.Errors = append(r.Errors, &strictyaml.Error{File: "extauthz", Message: "no key store is given: give --keys keys.yaml, or --config with a file that has a store"})
	case r.root != nil && !r.hasStore:
		r.Errorf(r.root, "store is missing: write `store: {yaml: {path: keys.yaml}}`, one with postgres or redis, or give --keys")
	}
}

// checkListeners checks that both listeners can be opened.
func (r *reader) checkListeners(o Overrides) {
	if !r.c.Listen.Conflicts(r.c.Admin.Listen) {
		return
	}
	const message = "listen and admin.listen are the same address: write another one, or admin: {listen: none}"
	switch {
	case o.Admin != "":
		r.Errors = append(r.Errors, &strictyaml.Error{File: "--admin", Message: message})
	case o.Listen != "":
		r.Errors = append(r.Errors, &strictyaml.Error{File: "--listen", Message: message})
	default:
		r.Errorf(cmp.Or(r.adminListen, r.listen), message)
	}
}

// warn reports settings that are allowed, but probably a mistake, whether in the file or by flags.
func (r *reader) warn(o Overrides) {
	warn := func(flag, value string, n *yaml.Node, message string) {
		if value != "" {
			r.Warnings = append(r.Warnings, &strictyaml.Error{File: flag, Message: message})
		} else {
			r.Warnf(n, "%s", message)
		}
	}
	if !r.c.Admin.Listen.Local() {
		warn("--admin", o.Admin, r.adminListen, "other machines can reach this address, which requires no password: protect it with a firewall or a network policy")
	}
	if o.InProcess {
		return
	}
	if !r.c.Listen.Local() && r.c.TLS.ClientCAFile == "" {
		warn("--listen", o.Listen, r.listen, "other machines can reach this address without a client certificate, and whoever can reach it can try secrets: write tls with client_ca_file, or protect it with a firewall or a network policy")
	}
	if r.socketNode != nil && r.c.Listen.Network != "unix" && r.c.Admin.Listen.Network != "unix" {
		r.Warnf(r.socketNode, "socket has no effect, because no listener is a unix socket: write listen: unix:/path, or omit socket")
	}
}

// parseAdminAddress also reads none, for no listener.
func parseAdminAddress(s string) (Address, error) {
	if s == "none" {
		return Address{}, nil
	}
	return ParseAddress(s)
}

func (r *reader) admin(n *yaml.Node) {
	r.Mapping(n, strictyaml.Fields{
		"listen": func(n *yaml.Node) { r.adminListen = n; r.address(n, parseAdminAddress, &r.c.Admin.Listen) },
		"pprof":  func(n *yaml.Node) { r.c.Admin.Pprof = r.Bool(n) },
	})
}

func (r *reader) dryRun(n *yaml.Node) {
	if r.c.DryRun = r.Bool(n); r.c.DryRun {
		r.Warnf(n, "a dry run lets every request through, with any key or none: write dry_run: false once the logged decisions are correct")
	}
}

func (r *reader) statuses(n *yaml.Node) {
	r.c.Statuses = map[authz.Code]int{}
	fields := strictyaml.Fields{}
	for _, code := range authz.Codes() {
		fields[code.String()] = func(n *yaml.Node) {
			if code.Allowed() {
				r.Errorf(n, "%s has no status: the upstream's response has one: omit it", code)
				return
			}
			status := 0
			if r.number(n, &status, 400, 599); status != 0 {
				r.c.Statuses[code] = status
			}
		}
	}
	r.Mapping(n, fields)
}

func (r *reader) metrics(n *yaml.Node) {
	r.Mapping(n, strictyaml.Fields{
		"owners": func(n *yaml.Node) { r.number(n, &r.c.Metrics.Owners, 0, 1000) },
	})
}

func (r *reader) log(n *yaml.Node) {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	r.Mapping(n, strictyaml.Fields{
		"level": func(n *yaml.Node) {
			var level string
			r.oneOf(n, &level, "debug", "info", "warn", "error")
			r.c.Log.Level = levels[level]
		},
		"format":    func(n *yaml.Node) { r.oneOf(n, &r.c.Log.Format, "text", "json") },
		"decisions": func(n *yaml.Node) { r.oneOf(n, &r.c.Log.Decisions, LogSampled, LogAll) },
	})
}

func (r *reader) shutdown(n *yaml.Node) {
	s := &r.c.Shutdown
	r.Mapping(n, strictyaml.Fields{
		"drain":   func(n *yaml.Node) { r.duration(n, &s.Drain, 0, time.Hour) },
		"timeout": func(n *yaml.Node) { r.duration(n, &s.Timeout, 0, time.Hour) },
	})
}

func (r *reader) grpc(n *yaml.Node) {
	g := &r.c.GRPC
	r.Mapping(n, strictyaml.Fields{
		"max_message_size":   func(n *yaml.Node) { r.number(n, &g.MaxMessageSize, 1024, 1<<30) },
		"max_connection_age": func(n *yaml.Node) { r.duration(n, &g.MaxConnectionAge, 0, 30*24*time.Hour) },
	})
}
