package config

import (
	"maps"
	"reflect"
	"slices"
)

// live are the fields that a running server can change, as pointers to them.
var live = map[string]func(*Config) any{
	"socket":           func(c *Config) any { return &c.Socket },
	"tls.client_names": func(c *Config) any { return &c.TLS.ClientNames },
	"tls.min_version":  func(c *Config) any { return &c.TLS.MinVersion },
	"admin.pprof":      func(c *Config) any { return &c.Admin.Pprof },
	"key_sources":      func(c *Config) any { return &c.KeySources },
	"forward_key":      func(c *Config) any { return &c.ForwardKey },
	"client_address":   func(c *Config) any { return &c.ClientAddress },
	"set_path":         func(c *Config) any { return &c.SetPath },
	"cache":            func(c *Config) any { return &c.Cache },
	"roles":            func(c *Config) any { return &c.Roles },
	"routes":           func(c *Config) any { return &c.Routes },
	"paths":            func(c *Config) any { return &c.Paths },
	"external_ids":     func(c *Config) any { return &c.ExternalIDs },
	"ratelimit":        func(c *Config) any { return &c.Ratelimit },
	"usage":            func(c *Config) any { return &c.Usage },
	"decision_log":     func(c *Config) any { return &c.DecisionLog },
	"tracing":          func(c *Config) any { return &c.Tracing },
	"dry_run":          func(c *Config) any { return &c.DryRun },
	"statuses":         func(c *Config) any { return &c.Statuses },
	"metrics":          func(c *Config) any { return &c.Metrics },
	"log":              func(c *Config) any { return &c.Log },
	"shutdown":         func(c *Config) any { return &c.Shutdown },
	"grpc":             func(c *Config) any { return &c.GRPC },
	"memory":           func(c *Config) any { return &c.Memory },
}

// fixed are the fields that a running server cannot change.
var fixed = map[string]func(*Config) any{
	"listen":             func(c *Config) any { return &c.Listen },
	"tls.cert_file":      func(c *Config) any { return &c.TLS.CertFile },
	"tls.key_file":       func(c *Config) any { return &c.TLS.KeyFile },
	"tls.client_ca_file": func(c *Config) any { return &c.TLS.ClientCAFile },
	"admin.listen":       func(c *Config) any { return &c.Admin.Listen },
	"store":              func(c *Config) any { return &c.Store },
	"usage.path":         func(c *Config) any { return &c.Usage.Path },
}

// Update returns the configuration that a server running with c uses after it reloads next: next,
// except for the fields that a running server cannot change. It also returns the names of the
// fields that differ between c and the result, and of those that need a restart, in order. It
// ignores the fields of the dashboard, which is another process, and of audit, which only programs that
// edit keys use.
func (c *Config) Update(next *Config) (updated *Config, changed, restart []string) {
	result := *next
	for _, name := range slices.Sorted(maps.Keys(fixed)) {
		is, will := reflect.ValueOf(fixed[name](c)).Elem(), reflect.ValueOf(fixed[name](&result)).Elem()
		if !reflect.DeepEqual(is.Interface(), will.Interface()) {
			restart = append(restart, name)
			will.Set(is)
		}
	}
	if slices.Contains(restart, "usage.path") {
		result.Usage = c.Usage // whether usage is recorded may depend on the path
	}
	for _, name := range slices.Sorted(maps.Keys(live)) {
		is, will := reflect.ValueOf(live[name](c)).Elem(), reflect.ValueOf(live[name](&result)).Elem()
		if !reflect.DeepEqual(is.Interface(), will.Interface()) {
			changed = append(changed, name)
		}
	}
	return &result, changed, restart
}
