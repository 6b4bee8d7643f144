package e2e_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/redisclient/redistest"
)

// An hour is longer than any test, so that no limit recovers during one.
const (
	twoAnHour = "ratelimits: [{name: requests, limit: 2, duration: 1h}]"
	metered   = keystore.Secret("acme_metered")
)

// limits returns an answer's headers about limits as one line.
func (r result) limits() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", r.status)
	for _, name := range []string{"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "Ratelimit-Policy", "Ratelimit"} {
		if v := r.header[name]; v != nil {
			fmt.Fprintf(&b, " %s=%s", strings.ToLower(name), strings.Join(v, "|"))
		}
	}
	return b.String()
}

// within fails unless a header contains whole seconds from low to high.
func (r result) within(t testing.TB, name string, low, high int) {
	t.Helper()
	if n, err := strconv.Atoi(r.header.Get(name)); err != nil || n < low || n > high {
		t.Errorf("%s is %q, want %d to %d", name, r.header.Get(name), low, high)
	}
}

func TestRateLimitsThroughEnvoy(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, listen func(testing.TB) string, raw bool) {
		upstream := harness.StartUpstream(t)
		server := harness.StartExtauthz(t, harness.Settings{
			Keys:   "keys:\n" + record("key_metered", metered, twoAnHour, "ip_whitelist: [127.0.0.1]", "permissions: [a]"),
			Config: "routes: [{path_prefix: /admin, permissions: admin}]\n", Listen: listen(t),
		})
		front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, RawHeaders: raw}.start(t).Addr("front")
		key := headers("X-Api-Key", string(metered))

		// A request that an earlier check refuses spends nothing.
		for range 5 {
			r := send(t, front, call{header: key, from: "127.0.0.2"})
			r.wantRefusal(t, 403, "FORBIDDEN", "key_metered")
			if got := r.limits(); got != "403" {
				t.Errorf("refused by its address: %s", got)
			}
			send(t, front, call{header: key, path: "/admin"}).wantRefusal(t, 403, "INSUFFICIENT_PERMISSIONS", "key_metered")
		}
		for _, want := range []string{"200 x-ratelimit-limit=2 x-ratelimit-remaining=1", "200 x-ratelimit-limit=2 x-ratelimit-remaining=0"} {
			r := send(t, front, call{header: key})
			if got := r.limits(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			r.within(t, "X-Ratelimit-Reset", 3500, 3660)
			if r.header.Get("Retry-After") != "" {
				t.Error("an allowed request gets Retry-After")
			}
		}
		upstream.Forget()
		for range 3 {
			r := send(t, front, call{header: key})
			r.wantRefusal(t, 429, "RATE_LIMITED", "key_metered")
			if got, want := r.limits(), "429 x-ratelimit-limit=2 x-ratelimit-remaining=0"; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
			r.within(t, "Retry-After", 3500, 3660)
			r.within(t, "X-Ratelimit-Reset", 3500, 3660)
		}
		if seen := upstream.Seen(); len(seen) > 0 {
			t.Errorf("a refused request reached the upstream: %+v", seen)
		}
	})
}

// Routes set limits and costs; keys of one owner share the owner's limits.
func TestCostsAndSharedLimits(t *testing.T) {
	t.Parallel()
	upstream := harness.StartUpstream(t)
	const other = keystore.Secret("acme_other")
	server := harness.StartExtauthz(t, harness.Settings{
		Keys: "keys:\n" + record("key_metered", metered, "external_id: acme", "ratelimits: [{name: exports, limit: 5, duration: 1h, auto_apply: false}]") +
			record("key_other", other, "external_id: acme"),
		Config: "external_ids: {acme: {ratelimits: [{name: requests, limit: 10, duration: 1h}]}}\n" +
			"ratelimit: {headers: ietf}\nroutes: [{path_prefix: /exports, ratelimits: 'exports=3, requests=4'}]\n",
	})
	start := func(extensions string) string {
		return gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr, Extensions: extensions}.start(t).Addr("front")
	}
	front, free := start(""), start(`{ratelimits: "requests=0"}`)
	expect := func(front string, secret keystore.Secret, path, want string) {
		t.Helper()
		got := send(t, front, call{header: headers("X-Api-Key", string(secret)), path: path}).limits()
		if before, _, ok := strings.Cut(got, ";t="); ok && !strings.Contains(got, ", ") {
			got = before // the seconds depend on the test's speed
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	const policy = ` ratelimit-policy="requests";q=10;w=3600 ratelimit="requests";r=`
	expect(front, metered, "/documents", "200"+policy+"9")
	expect(front, other, "/documents", "200"+policy+"8")
	expect(free, other, "/documents", "200"+policy+"8")
	expect(front, metered, "/exports/7", `200 ratelimit-policy="exports";q=5;w=3600, "requests";q=10;w=3600 ratelimit="exports";r=2;`)
	expect(front, other, "/documents", "200"+policy+"3")
	// All or nothing: there is not room for 4 more requests, nor for 3 exports.
	expect(front, metered, "/exports/7", "429")
	expect(front, other, "/documents", "200"+policy+"2")
}

// Two replicas share their counters in Redis: however many requests arrive concurrently, no more than the
// limit are allowed.
func TestReplicasShareLimits(t *testing.T) {
	t.Parallel()
	const limit, each = 50, 30
	redis := redistest.Start(t)
	upstream := harness.StartUpstream(t)
	settings := harness.Settings{
		Keys: "keys:\n" + record("key_metered", metered, fmt.Sprintf("ratelimits: [{name: requests, limit: %d, duration: 1h}]", limit)),
		// A slow machine must not cause refusals.
		Config: fmt.Sprintf("ratelimit: {store: redis, url: %q, on_error: refuse, timeout: 10s}\n", redis.URL()),
	}
	var fronts []string
	for range 2 {
		server := harness.StartExtauthz(t, settings)
		fronts = append(fronts, gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t).Addr("front"))
	}
	var allowed, limited atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range each {
				r, err := trySend(t, fronts[i%2], call{header: headers("X-Api-Key", string(metered))})
				switch {
				case err != nil:
					t.Error(err)
				case r.status == http.StatusOK:
					allowed.Add(1)
				case r.status == http.StatusTooManyRequests:
					limited.Add(1)
				default:
					t.Errorf("got %d %s", r.status, r.body)
				}
			}
		})
	}
	wg.Wait()
	if allowed.Load() != limit || limited.Load() != 8*each-limit {
		t.Errorf("%d were allowed and %d limited, want %d and %d", allowed.Load(), limited.Load(), limit, 8*each-limit)
	}
	if n := len(upstream.Seen()); n != limit {
		t.Errorf("the upstream saw %d requests, want %d", n, limit)
	}
}

// down is the beginning of the log line about a rate limiter that does not answer.
const down = "the rate limiter does not answer"

// logged waits until the server's log contains a text, and returns how often.
func logged(t testing.TB, server *harness.Server, text string) (n int) {
	t.Helper()
	polltest.NoError(t, func() error {
		if n = strings.Count(server.Log(), text); n == 0 {
			return fmt.Errorf("the log does not say %q", text)
		}
		return nil
	})
	return n
}

// counted returns the value of a counter without labels.
func counted(t testing.TB, server *harness.Server, name string) int {
	t.Helper()
	_, after, _ := strings.Cut(server.Metrics(t), "\n"+name+" ")
	line, _, _ := strings.Cut(after, "\n")
	n, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// While Redis is stopped, on_error decides on requests.
func TestRedisKilled(t *testing.T) {
	t.Parallel()
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprintf("refuse=%t", refuse), func(t *testing.T) {
			redis := redistest.Start(t)
			onError := "allow"
			if refuse {
				onError = "refuse"
			}
			upstream := harness.StartUpstream(t)
			server := harness.StartExtauthz(t, harness.Settings{
				Keys:   "keys:\n" + record("key_metered", metered, twoAnHour) + record("key_open", open),
				Config: fmt.Sprintf("ratelimit: {store: redis, url: %q, on_error: %s, timeout: 1500ms}\n", redis.URL(), onError),
			})
			front := gateway{Servers: []string{server.Addr}, Upstream: upstream.Addr}.start(t).Addr("front")
			c := call{header: headers("X-Api-Key", string(metered))}
			limited := func() error {
				if r := send(t, front, c); r.status != http.StatusTooManyRequests {
					return fmt.Errorf("got %d %s, want 429", r.status, r.body)
				}
				return nil
			}
			polltest.NoError(t, limited)
			// On a slow machine the first requests may have failed.
			const failures = "extauthz_ratelimit_failures_total"
			failed, lines := counted(t, server, failures), strings.Count(server.Log(), down)

			redis.Kill()
			for range 4 {
				if r := send(t, front, c); refuse {
					r.wantRefusal(t, 503, "UNAVAILABLE", "")
				} else if got := r.limits(); got != "200" {
					t.Errorf("without Redis: %s, want 200", got)
				}
			}
			// A key without limits does not need it.
			if r := send(t, front, call{header: headers("X-Api-Key", string(open))}); r.status != 200 {
				t.Errorf("a key without limits: %d %s", r.status, r.body)
			}
			if n := counted(t, server, failures) - failed; n != 4 {
				t.Errorf("counted %d failures, want 4", n)
			}
			if n := logged(t, server, down) - lines; n != 1 {
				t.Errorf("logged %d times, want once", n)
			}

			redis.Restart()
			polltest.NoError(t, limited)
		})
	}
}

// A gRPC caller gets the code alone, and the headers as metadata. Envoy maps 429 to UNAVAILABLE, like
// gRPC's own mapping of HTTP statuses.
func TestLimitsOfAGRPCCaller(t *testing.T) {
	t.Parallel()
	server := harness.StartExtauthz(t, harness.Settings{Keys: "keys:\n" + record("key_listed", listed, twoAnHour)})
	envoy := gateway{Servers: []string{server.Addr}, Upstream: grpcUpstream(t), UpstreamHTTP2: true}.start(t)
	conn, err := grpc.NewClient(envoy.Addr("front"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, want := range []struct {
		code               codes.Code
		message, remaining string
	}{{codes.OK, "", "1"}, {codes.OK, "", "0"}, {codes.Unavailable, "RATE_LIMITED", "0"}} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-api-key", string(listed))
		var header, trailer metadata.MD
		_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.Header(&header), grpc.Trailer(&trailer))
		got := status.Convert(err)
		if md := metadata.Join(header, trailer); got.Code() != want.code || got.Message() != want.message ||
			strings.Join(md.Get("x-ratelimit-remaining"), " ") != want.remaining || (err != nil) != (md.Get("retry-after") != nil) {
			t.Errorf("got %s %q with %v, want %s %q", got.Code(), got.Message(), md, want.code, want.message)
		}
	}
}
