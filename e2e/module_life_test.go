package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// Envoy rejects a configuration that the module cannot use, and its log says why.
func TestModuleRejectsConfigurations(t *testing.T) {
	t.Parallel()
	good := newModule(t, keys, "")
	for name, tt := range map[string]struct {
		config, extensions, want string
	}{
		"no file":             {"/nowhere/extauthz.yaml", "", "/nowhere/extauthz.yaml"},
		"a field":             {newModule(t, keys, "key_sourcez: []").config(), "", `unknown field "key_sourcez"`},
		"a field, in text":    {"{store: {yaml: {path: keys.yaml}}, key_sourcez: []}", "", `filter_config:1:36: unknown field "key_sourcez"`},
		"a key":               {newModule(t, "keys:\n  - {id: key_a, hash: xyz}\n", "").config(), "", "keys.yaml:2"},
		"a store":             {"{admin: {listen: none}}", "", "store is missing"},
		"nothing":             {" ", "", "filter_config is empty"},
		"a route":             {good.config(), "{permissions: 7}", "permissions"},
		"a route with a list": {good.config(), "{permissions: [a]}", "write an object of strings"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gateway{Module: tt.config, Upstream: "127.0.0.1:1", Extensions: tt.extensions}
			err := harness.ValidateEnvoy(t, g.bootstrap(t))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "extauthz: ") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := harness.ValidateEnvoy(t, gateway{Module: good.config(), Upstream: "127.0.0.1:1"}.bootstrap(t)); err != nil {
		t.Errorf("a good configuration: %v", err)
	}
}

// An Envoy that does not report the direct remote address of a connection is refused: every other address that
// it reports may be chosen by the caller.
func TestModuleRefusesAnOlderEnvoy(t *testing.T) {
	t.Parallel()
	config := gateway{Module: newModule(t, keys, "").config(), Upstream: "127.0.0.1:1"}.bootstrap(t)
	if err := harness.ValidateEnvoyOf(t, harness.Envoy(t), config); err != nil {
		t.Errorf("this Envoy: %v", err)
	}
	err := harness.ValidateEnvoyOf(t, harness.OlderEnvoy(t), config)
	if err == nil || !strings.Contains(err.Error(), "extauthz: this Envoy is too old for the module") {
		t.Errorf("an older Envoy: %v", err)
	}
}

// A nil pointer in the decision refuses the request, is counted, and does not end Envoy, whose own handler of
// such faults is in the same process.
func TestModulePanics(t *testing.T) {
	t.Parallel()
	harness.PanickingModule(t)
	addr, upstream := harness.FreeAddr(t), harness.StartUpstream(t)
	g := gateway{Module: newModule(t, keys, "admin: {listen: "+addr+"}\n").config(), Upstream: upstream.Addr}
	envoy := harness.StartEnvoy(t, strings.ReplaceAll(g.bootstrap(t), "{name: extauthz,", "{name: extauthz_panicking,"), "--concurrency", "2")
	for range 20 {
		if r := send(t, envoy.Addr("front"), withKey(open)); r.status != 503 || !strings.Contains(r.body, "UNAVAILABLE") {
			t.Errorf("got %d %s", r.status, r.body)
		}
	}
	if seen := upstream.Seen(); len(seen) > 0 {
		t.Errorf("the upstream saw %+v", seen)
	}
	var body string
	polltest.Until(t, "the metrics are served", func() bool {
		response, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		body = string(text)
		return true
	})
	if !strings.Contains(body, "extauthz_panics_total 20\n") {
		t.Error("not every panic is counted")
	}
	if code := envoy.Stop(); code != 0 {
		t.Errorf("Envoy ended with %d", code)
	}
}

// load sends requests with a key until stop is called, which returns how many were answered, by status.
func load(t *testing.T, front string, secret keystore.Secret, clients int) (stop func() map[int]int) {
	ctx, cancel := context.WithCancel(t.Context())
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all = map[int]int{}
	)
	for range clients {
		wg.Go(func() {
			client := http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+front+"/load", nil)
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("X-Api-Key", string(secret))
				status := 0 // a connection that broke
				if response, err := client.Do(request); err == nil {
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
					status = response.StatusCode
				} else if ctx.Err() != nil {
					return
				}
				mu.Lock()
				all[status]++
				mu.Unlock()
			}
		})
	}
	return func() map[int]int {
		cancel()
		wg.Wait()
		return all
	}
}

// Keys are reloaded under load, by any number of workers, and no request is decided wrongly.
func TestModuleReloadsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, workers := range []string{"1", "2", "3", "4"} {
		t.Run(workers+" workers", func(t *testing.T) {
			m := newModule(t, keys, "")
			envoy := gateway{Module: m.config(), Upstream: harness.StartUpstream(t).Addr, AccessLog: "-"}.start(t, "--concurrency", workers)
			front := envoy.Addr("front")
			always, never := load(t, front, open, 4), load(t, front, "acme_never", 2)
			for i := range 8 {
				added := keystore.Secret(fmt.Sprintf("acme_added_%d", i))
				m.write(t, "keys.yaml", keys+record("key_added", added))
				polltest.Until(t, "the added key is known", func() bool { return send(t, front, withKey(added)).status == 200 })
			}
			m.write(t, "extauthz.yaml", "store: {yaml: {path: keys.yaml}}\nadmin: {listen: none}\nstatuses: {NOT_FOUND: 418}\n")
			polltest.Until(t, "the configuration is reloaded", func() bool { return send(t, front, withKey("acme_never")).status == 418 })
			if all := always(); len(all) != 1 || all[200] == 0 {
				t.Errorf("a key that is always there: %v", all)
			}
			if all := never(); all[200] > 0 || all[0] > 0 || all[401] == 0 {
				t.Errorf("a key that is never there: %v", all)
			}
			quiet(t, envoy)
			if code := envoy.Stop(); code != 0 {
				t.Errorf("Envoy ended with %d", code)
			}
		})
	}
}

// listeners writes the listeners of an Envoy into a file that it watches, and returns the rest of its
// configuration. Each listener guards all requests with its own configuration of the module.
type listeners struct{ dir string }

func (l listeners) bootstrap(upstream string) string {
	return fmt.Sprintf(`
node: {id: test, cluster: test}
dynamic_resources: {lds_config: {path_config_source: {path: %q, watched_directory: {path: %q}}}}
static_resources:
  clusters: [{name: upstream, load_assignment: {cluster_name: upstream, endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]}}]
`, filepath.Join(l.dir, "lds.yaml"), l.dir, upstream)
}

// write sets the listeners: the filters of each, as configurations of the module, by its name.
func (l listeners) write(t *testing.T, keepLoaded bool, all map[string][]string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("resources:\n")
	for name, configs := range all {
		var filters []string
		for i, config := range configs {
			filters = append(filters, fmt.Sprintf(`{name: extauthz%d, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter, `+
				`dynamic_module_config: {name: extauthz, do_not_close: %t}, filter_name: extauthz, filter_config: {"@type": type.googleapis.com/google.protobuf.StringValue, value: %q}}}`, i, keepLoaded, config))
		}
		fmt.Fprintf(&b, `- {"@type": type.googleapis.com/envoy.config.listener.v3.Listener, name: %s, address: {socket_address: {address: 127.0.0.1, port_value: 0}}, filter_chains: [{filters: [{name: hcm, typed_config: {
    "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: front,
    route_config: {virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: upstream}}]}]},
    http_filters: [%s, {name: router, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}]}}]}]}
`, name, strings.Join(filters, ", "))
	}
	path := filepath.Join(l.dir, "lds.yaml")
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Filters with different configurations decide by their own, also one after the other; a listener's new
// configuration replaces the old one under load; and what is no longer used is closed.
func TestModuleListenerUpdates(t *testing.T) {
	t.Parallel()
	for _, keepLoaded := range []bool{true, false} {
		t.Run(fmt.Sprintf("do_not_close %t", keepLoaded), func(t *testing.T) {
			both := record("key_open", open)
			first := newModule(t, "keys:\n"+both+record("key_first", "acme_first"), "forward_key: true\n").config()
			second := newModule(t, "keys:\n"+both+record("key_second", "acme_second"), "forward_key: true\n").config()
			l := listeners{t.TempDir()}
			l.write(t, keepLoaded, map[string][]string{"a": {first}, "b": {second}, "both": {first, second}})
			envoy := harness.StartEnvoy(t, l.bootstrap(harness.EnvoyAddress(t, harness.StartUpstream(t).Addr)), "--drain-time-s", "1", "--concurrency", "2")
			check := func(listener string, secret keystore.Secret, want int) {
				t.Helper()
				if r := send(t, envoy.Addr(listener), withKey(secret)); r.status != want {
					t.Errorf("%s, %s: %d %s, want %d", listener, secret, r.status, r.body, want)
				}
			}
			check("a", "acme_first", 200)
			check("a", "acme_second", 401)
			check("b", "acme_first", 401)
			check("b", "acme_second", 200)
			check("both", "acme_first", 401)
			check("both", open, 200)

			stop := load(t, envoy.Addr("a"), open, 4)
			for i := range 6 {
				is := []string{second, first}[i%2]
				l.write(t, keepLoaded, map[string][]string{"a": {is}})
				secret := map[string]keystore.Secret{first: "acme_first", second: "acme_second"}[is]
				polltest.Until(t, "the update is in use", func() bool {
					r, err := trySend(t, envoy.Addr("a"), withKey(secret))
					return err == nil && r.status == 200
				})
			}
			if all := stop(); all[200] == 0 || len(all) > 2 || len(all) == 2 && all[0] == 0 { // Envoy closes connections that it drains
				t.Errorf("answers while listeners were updated: %v", all)
			}
			l.write(t, keepLoaded, map[string][]string{"a": {first}})
			const closed = "no longer checking requests in this process"
			polltest.Until(t, "the configuration that is not used is closed", func() bool { return strings.Contains(envoy.Log(), closed) })
			check("a", "acme_first", 200)
			quiet(t, envoy)
			if code := envoy.Stop(); code != 0 {
				t.Errorf("Envoy ended with %d", code)
			}
		})
	}
}

// While a store hangs, workers go on: callers that go away, a listener's end and Envoy's own find streams
// that wait, and nothing of them is used afterwards.
func TestModuleStreamsThatEndWhileTheyWait(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	remote := newModule(t, "", "store: {redis: {url: \"redis://"+redis.Addr()+"\"}}\ncache: {lookup_timeout: 2s}\n").config()
	local := newModule(t, keys, "").config()
	l := listeners{t.TempDir()}
	l.write(t, true, map[string][]string{"remote": {remote}, "local": {local}})
	envoy := harness.StartEnvoy(t, l.bootstrap(harness.EnvoyAddress(t, harness.StartUpstream(t).Addr)), "--drain-time-s", "1")
	front := envoy.Addr("remote")
	send(t, front, withKey("acme_unknown")).wantRefusal(t, 401, "NOT_FOUND", "")
	redis.CLI("CLIENT", "PAUSE", "60000")
	var refused, gone atomic.Int32
	var wg sync.WaitGroup
	abandon := func(n int, patience time.Duration) {
		for i := range n {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+front+"/", strings.NewReader("body"))
				if err != nil {
					t.Error(err)
					return
				}
				request.Header.Set("X-Api-Key", fmt.Sprintf("acme_%d_%s", i, patience))
				client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				response, err := client.Do(request)
				if err != nil {
					gone.Add(1)
					return
				}
				defer response.Body.Close()
				if body, _ := io.ReadAll(response.Body); response.StatusCode == 503 && strings.Contains(string(body), "UNAVAILABLE") {
					refused.Add(1)
				} else {
					t.Errorf("got %s %s", response.Status, body)
				}
			})
		}
	}
	abandon(200, 300*time.Millisecond)
	abandon(50, time.Minute)
	for range 20 { // the same worker does not wait
		if r := send(t, envoy.Addr("local"), withKey(open)); r.status != 200 {
			t.Fatalf("got %d %s", r.status, r.body)
		}
	}
	wg.Wait()
	if gone.Load() == 0 || refused.Load() < 50 {
		t.Errorf("%d callers went away, %d were refused", gone.Load(), refused.Load())
	}
	abandon(50, time.Minute)
	time.Sleep(200 * time.Millisecond)
	l.write(t, true, map[string][]string{"local": {local}}) // the listener ends, with the streams that wait
	time.Sleep(100 * time.Millisecond)
	send(t, envoy.Addr("local"), withKey(open)).upstreamSaw(t)
	if code := envoy.Stop(); code != 0 {
		t.Errorf("Envoy ended with %d", code)
	}
	wg.Wait()
}

// A listener whose store does not answer does not hold up Envoy's main thread: others continue, their updates take
// effect, and its requests are refused until the store answers.
func TestModuleOpensWhileItsStoreHangs(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	url := `"redis://` + redis.Addr() + `"`
	remote := newModule(t, "", "store: {redis: {url: "+url+"}}\nratelimit: {store: redis, url: "+url+"}\nusage: {record: true}\n").config()
	local := newModule(t, keys, "").config()
	l := listeners{t.TempDir()}
	l.write(t, true, map[string][]string{"local": {local}})
	envoy := harness.StartEnvoy(t, l.bootstrap(harness.EnvoyAddress(t, harness.StartUpstream(t).Addr)))
	redis.Pause()
	defer redis.Resume()
	l.write(t, true, map[string][]string{"local": {local}, "remote": {remote}})
	var longest time.Duration
	polltest.Until(t, "the listener is there", func() bool {
		start := time.Now()
		there := strings.Contains(envoy.AdminGet("/listeners?format=json"), `"remote"`) // the main thread answers
		longest = max(longest, time.Since(start))
		return there
	})
	t.Logf("the main thread answered after %s at most", longest)
	if longest > 1500*time.Millisecond { // an attempt to connect takes 2 s, and there are three
		t.Errorf("the main thread answered after %s", longest)
	}
	send(t, envoy.Addr("local"), withKey(open)).upstreamSaw(t)
	send(t, envoy.Addr("remote"), withKey(open)).wantRefusal(t, 503, "UNAVAILABLE", "")
	redis.Resume()
	polltest.Until(t, "the store answers", func() bool { return send(t, envoy.Addr("remote"), withKey(open)).status == 401 })
	if code := envoy.Stop(); code != 0 {
		t.Errorf("Envoy ended with %d", code)
	}
}
