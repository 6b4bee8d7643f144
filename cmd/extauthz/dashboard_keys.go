package main

import (
	"context"
	"iter"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"extauthz/authz"
	"extauthz/backend"
	"extauthz/check"
	"extauthz/config"
	"extauthz/dashboard"
	"extauthz/keystore"
	"extauthz/usage"
)

// fileKeys reads keys from memory and edits the files that they come from.
type fileKeys struct {
	keystore.Editor // changes

	Reader backend.Store
	files  backend.InMemory
}

func (f *fileKeys) Keys(ctx context.Context, after string) iter.Seq2[*keystore.Key, error] {
	return f.Reader.Keys(ctx, after)
}

func (f *fileKeys) Key(ctx context.Context, id string) (*keystore.Key, error) {
	return f.Reader.Key(ctx, id)
}

func (f *fileKeys) Add(ctx context.Context, k *keystore.Key) error {
	return f.reload(f.Editor.Add(ctx, k))
}

func (f *fileKeys) Update(ctx context.Context, id string, change func(*keystore.Key) error) error {
	return f.reload(f.Editor.Update(ctx, id, change))
}

// reload reads the files again after a change, so that the next page shows it.
func (f *fileKeys) reload(err error) error {
	if err != nil {
		return err
	}
	_ = f.files.Reload() // the change is written, and read soon in any case
	return nil
}

// explainFor explains the decision that the server would make on a request with a key's secret.
func explainFor(ctx context.Context, log *slog.Logger, cfg *config.Config, store backend.Store, r *dashboard.CheckRequest) (*dashboard.CheckResult, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := store.Key(ctx, r.KeyID); err != nil {
		return nil, err
	}
	limits, err := backend.OpenLimiter(ctx, cfg.Ratelimit)
	if err != nil {
		return nil, err
	}
	defer limits.Close()
	e := &explainer{byID: true, secret: "the key's own"}
	c := *cfg
	if r.Path == "" {
		c.Routes = nil
		if cfg.Routes != nil {
			e.result.Notes = append(e.result.Notes, "The configuration's routes were not applied: enter a path.")
		}
	}
	e.authorizer = backend.NewAuthorizer(&c, keyByID{store, r.KeyID}, limits, backend.AuthorizerHooks{})
	if err := e.explain(ctx, &c, attributesOf(r)); err != nil {
		return nil, err
	}
	if e.err != nil {
		log.Error("a check could not be decided", "key_id", r.KeyID, "error", e.err)
	}
	return checkResultOf(e), nil
}

func attributesOf(r *dashboard.CheckRequest) *check.Attributes {
	a := &check.Attributes{Method: clean(r.Method), Path: clean(r.Path), Host: clean(r.Host)}
	if r.Peer.IsValid() {
		a.Peer = r.Peer.String()
	}
	if r.ForwardedFor != "" {
		a.Headers = append(a.Headers, check.Field{Name: "x-forwarded-for", Value: clean(r.ForwardedFor)})
	}
	if r.Permissions != "" {
		a.Extensions = append(a.Extensions, check.Field{Name: "permissions", Value: r.Permissions})
	}
	if r.RateLimitCosts != "" {
		a.Extensions = append(a.Extensions, check.Field{Name: "ratelimits", Value: r.RateLimitCosts})
	}
	return a
}

func checkResultOf(e *explainer) *dashboard.CheckResult {
	r := &dashboard.CheckResult{
		Code: e.result.Code, Allowed: e.result.Valid, ClientAddress: e.result.ClientAddress, ClientAddressFrom: e.result.ClientAddressFrom,
		ClientAddressError: e.result.ClientAddressError, Notes: e.result.Notes,
	}
	if e.err != nil {
		r.Code, r.Notes = authz.Unavailable.String(), append(r.Notes, "No decision could be made. The program's log says why.")
	}
	for _, s := range e.result.Checks {
		r.Steps = append(r.Steps, dashboard.CheckStep{Code: s.Code, Detail: s.Detail, Ran: s.Ran, Holds: s.Holds})
	}
	return r
}

// stateOf returns the state of the store, and of the servers that reported in the last minute.
func stateOf(ctx context.Context, cfg *config.Config, store backend.Store, records usage.Store) dashboard.State {
	state := dashboard.State{Store: cfg.Store.Name(), Err: backend.AskReady(ctx, store)}
	if records == nil {
		return state
	}
	servers, err := records.Servers(ctx, time.Now().Add(-time.Minute))
	if err != nil && state.Err == nil {
		state.Err = err
	}
	for _, s := range servers {
		state.Replicas = append(state.Replicas, dashboard.Replica{Name: s.Name, Version: s.Version, ChannelUp: s.ChannelUp, LastReport: s.Time})
	}
	return state
}

// secretPrefix returns how a secret begins that the first key source accepts; "" if any does.
func secretPrefix(cfg *config.Config) string {
	_, prefix, _ := strings.Cut(cfg.KeySources[0].String(), ", prefix ")
	return strings.TrimSuffix(prefix, "_")
}

// curlWith returns a command line that sends a request to Envoy with a secret where the first key
// source looks for it.
func curlWith(cfg *config.Config, secret string) string {
	const envoy = "http://127.0.0.1:10000/"
	description, _, _ := strings.Cut(cfg.KeySources[0].String(), ", prefix ")
	place, scheme, _ := strings.Cut(description, ", scheme ")
	kind, name, _ := strings.Cut(place, " ")
	switch {
	case kind == "query":
		return "curl -i " + shellQuoted(envoy+"?"+url.QueryEscape(name)+"="+secret)
	case kind == "cookie":
		return "curl -i -b " + shellQuoted(name+"="+secret) + " " + envoy
	case scheme != "":
		secret = scheme + " " + secret
	}
	return "curl -i -H " + shellQuoted(name+": "+secret) + " " + envoy
}

func shellQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
