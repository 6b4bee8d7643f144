package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/e2e/harness"
	"extauthz/envoy"
	"extauthz/keystore"
	"extauthz/keystore/cache"
	"extauthz/polltest"
)

// With a second, healthy server, killing or stopping one under load loses no request.
func TestServerEndsUnderLoad(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			upstream := harness.StartUpstream(t)
			first := harness.StartExtauthz(t, harness.Settings{Keys: keys, Config: "shutdown: {drain: 1s}", Listen: harness.FreeAddr(t)})
			second := harness.StartExtauthz(t, harness.Settings{Keys: keys})
			front := gateway{Servers: []string{first.Addr, second.Addr}, Upstream: upstream.Addr}.start(t).Addr("front")

			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var sent atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					for ctx.Err() == nil && sent.Load() < 200_000 {
						r, err := trySend(t, front, call{header: headers("X-Api-Key", string(listed))})
						if err != nil || r.status != 200 {
							t.Errorf("request %d: %d %s %v", sent.Load(), r.status, r.body, err)
							return
						}
						sent.Add(1)
					}
				})
			}
			load := func(n int64) {
				until := sent.Load() + n
				polltest.NoError(t, func() error {
					if got := sent.Load(); got < until && !t.Failed() {
						return fmt.Errorf("%d of %d requests went through", got, until)
					}
					return nil
				})
			}
			load(100)
			for range 2 {
				first.Signal(signal)
				first.Wait()
				load(100)
				first.Restart(t)
				load(100)
			}
			cancel()
			wg.Wait()
		})
	}
}

// Without any server, the caller gets 503, not 403, unless it is configured otherwise.
func TestServerGone(t *testing.T) {
	t.Parallel()
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("failure_mode_allow=%t", allow), func(t *testing.T) {
			upstream := harness.StartUpstream(t)
			server := harness.StartExtauthz(t, harness.Settings{Keys: keys, Listen: harness.FreeAddr(t)})
			front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, FailureModeAllow: allow}.start(t).Addr("front")
			send(t, front, call{header: headers("X-Api-Key", string(elsewhere))}).wantRefusal(t, 403, "FORBIDDEN", "key_elsewhere")
			server.Kill()
			want := 503
			if allow {
				want = 200
			}
			if r := send(t, front, call{header: headers("X-Api-Key", string(elsewhere))}); r.status != want {
				t.Errorf("got %d %s, want %d", r.status, r.body, want)
			}
			server.Restart(t)
			polltest.NoError(t, func() error { // once Envoy's health check has failed
				r := send(t, front, call{header: headers("X-Api-Key", string(elsewhere))})
				if r.status != 403 || !strings.Contains(r.body, "FORBIDDEN") {
					return fmt.Errorf("got %d %s, want 403", r.status, r.body)
				}
				return nil
			})
		})
	}
}

// unreachable is a store that cannot answer.
type unreachable struct{}

func (unreachable) Lookup(context.Context, keystore.Hash) (*keystore.Key, error) {
	return nil, errors.New("connection refused")
}

// UNAVAILABLE is an error to Envoy, so that the operator's failure_mode_allow decides.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("failure_mode_allow=%t", allow), func(t *testing.T) {
			upstream := harness.StartUpstream(t)
			front := gateway{Servers: []string{serve(t, unreachable{})}, Upstream: upstream.Addr, FailureModeAllow: allow}.start(t).Addr("front")
			r := send(t, front, call{header: headers("X-Api-Key", string(open))})
			if allow {
				r.upstreamSaw(t)
				return
			}
			r.wantRefusal(t, 503, "UNAVAILABLE", "")
			if seen := upstream.Seen(); len(seen) > 0 {
				t.Errorf("the upstream saw %+v", seen)
			}
		})
	}
}

// panicking is a store that panics.
type panicking struct{}

func (panicking) Lookup(context.Context, keystore.Hash) (*keystore.Key, error) { panic("a mistake") }

// A check that panics is a denial: a caller who makes extauthz panic is refused even under
// failure_mode_allow.
func TestPanicIsDenied(t *testing.T) {
	t.Parallel()
	cached, err := cache.New(panicking{}, cache.DefaultConfig()) // lookups run in another goroutine
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cached.Close)
	for name, store := range map[string]keystore.Store{"store": panicking{}, "cache": cached} {
		t.Run(name, func(t *testing.T) {
			upstream := harness.StartUpstream(t)
			front := gateway{Servers: []string{serve(t, store)}, Upstream: upstream.Addr, FailureModeAllow: true}.start(t).Addr("front")
			send(t, front, call{header: headers("X-Api-Key", string(open))}).wantRefusal(t, 503, "UNAVAILABLE", "")
			if seen := upstream.Seen(); len(seen) > 0 {
				t.Errorf("the upstream saw %+v", seen)
			}
		})
	}
}

// serve runs a server over this store, in the test's process.
func serve(t *testing.T, store keystore.Store) string {
	t.Helper()
	checker, err := check.New(check.Config{Authorizer: authz.New(store, time.Now)})
	if err != nil {
		t.Fatal(err)
	}
	service := envoy.New(checker, envoy.MaxMessageSize(64<<20))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(service.ServerOptions()...)
	service.Register(server)
	healthv1.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// A change of the key file takes effect through Envoy, without a restart.
func TestReloadThroughEnvoy(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
	front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t).Addr("front")
	want := func(code string) {
		polltest.NoError(t, func() error {
			r := send(t, front, call{header: headers("X-Api-Key", string(listed))})
			if r.status == 200 && code == "VALID" || strings.Contains(r.body, `"`+code+`"`) {
				return nil
			}
			return fmt.Errorf("got %d %s, want %s", r.status, r.body, code)
		})
	}
	want("VALID")
	server.WriteKeys(t, "keys:\n"+record("key_listed", listed, "ip_whitelist: [192.0.2.7]"))
	want("FORBIDDEN")
	server.WriteKeys(t, "keys:\n"+record("key_listed", listed, "ip_whitelist: [127.0.0.1]"))
	want("VALID")
	server.WriteKeys(t, "keys:\n"+record("key_listed", listed, "ip_whitelist: [127.0.0.1/8]")) // a mistake: the last good set stays
	server.WriteKeys(t, "keys:\n"+record("key_listed", listed, "ip_whitelist: [127.0.0.1]", "enabled: false"))
	want("DISABLED")
	server.WriteKeys(t, "keys: []\n")
	want("NOT_FOUND")
}
