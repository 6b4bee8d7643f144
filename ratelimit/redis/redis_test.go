package redis

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"extauthz/polltest"
	"extauthz/ratelimit"
	"extauthz/ratelimit/ratelimittest"
	"extauthz/redisclient/redistest"
)

// open returns a Limiter with a timeout that is long enough on a busy machine.
func open(t *testing.T, url, prefix string) *Limiter {
	t.Helper()
	l, err := Open(t.Context(), Options{URL: url, Prefix: prefix, Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// The script gets the time from the test, so that it is compared with the same oracle as the limiter in
// memory, without waiting. TestServerClock covers the server's clock.
func TestLimiter(t *testing.T) {
	server := redistest.Start(t)
	ratelimittest.Run(t, func(t *testing.T, now func() time.Time) ratelimit.Limiter {
		l := open(t, server.URL(), t.Name()+":")
		l.now = now
		return l
	})
}

var (
	alice = ratelimit.Subject{Key: "key_alice", Owner: "a}c{me"}
	bob   = ratelimit.Subject{Key: "key_bob", Owner: "a}c{me"}
)

func one(limit int64, d time.Duration) []ratelimit.Charge {
	return []ratelimit.Charge{
		{Name: "requests", Limit: limit, Duration: d, Cost: 1},
		{Name: "all", Limit: limit, Duration: d, Cost: 1, Shared: true},
	}
}

func take(t *testing.T, l *Limiter, s ratelimit.Subject, c []ratelimit.Charge) ratelimit.Result {
	t.Helper()
	r, err := l.Take(t.Context(), s, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestServerClock(t *testing.T) {
	server := redistest.Start(t)
	l := open(t, server.URL(), "")
	c := one(1, time.Second)
	if r := take(t, l, alice, c); r.Limited() || r.Limits[0].Reset > time.Second+ratelimit.SlotWidth(1, time.Second) {
		t.Fatalf("%+v", r)
	}
	polltest.Until(t, "room again", func() bool {
		r, err := l.Look(t.Context(), alice, c)
		return err == nil && !r.Limited()
	})
	// A counter expires.
	polltest.Until(t, "no counters", func() bool { return server.CLI("DBSIZE") == "0" })
}

// Eight clients of two replicas are never allowed more requests than the limit.
func TestReplicasShareALimit(t *testing.T) {
	server := redistest.Start(t)
	replicas := []*Limiter{open(t, server.URL(), ""), open(t, server.URL(), "")}
	const limit = 300
	var allowed atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			subject := []ratelimit.Subject{alice, bob}[i/2%2]
			for range 100 {
				r, err := replicas[i%2].Take(t.Context(), subject, []ratelimit.Charge{{Name: "all", Limit: limit, Duration: time.Hour, Shared: true, Cost: 1}})
				if err != nil {
					t.Error(err)
				} else if !r.Limited() {
					allowed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := allowed.Load(); got != limit {
		t.Errorf("%d of 800 were allowed, want %d", got, limit)
	}
}

func TestKilledAndBack(t *testing.T) {
	server := redistest.Start(t)
	l := open(t, server.URL(), "")
	take(t, l, alice, one(100, time.Hour))
	server.Kill()
	if r, err := l.Take(t.Context(), alice, one(100, time.Hour)); err == nil {
		t.Fatalf("an answer from the dead: %+v", r)
	}
	server.Restart()
	polltest.Until(t, "an answer", func() bool {
		_, err := l.Take(t.Context(), alice, one(100, time.Hour))
		return err == nil
	})
}

// TestPermissions uses only the documented permissions.
func TestPermissions(t *testing.T) {
	server := redistest.Start(t)
	server.CLI("ACL", "SETUSER", "limiter", "on", "nopass", "~extauthz:ratelimit:*", "+@connection", "+cluster|slots", "+role",
		"+eval", "+evalsha", "+time", "+get", "+set", "+hgetall", "+hincrby", "+hdel", "+pexpire")
	l := open(t, strings.Replace(server.URL(), "//", "//limiter:any@", 1), "")
	s := alice
	for i := range 3 {
		s.Request = strconv.Itoa(i)
		take(t, l, s, one(100, 10*time.Millisecond))
		time.Sleep(15 * time.Millisecond) // so that there is something to delete
	}
}

// A connection that was cut while it was idle fails no request that can be retried without being charged
// twice.
func TestCutConnection(t *testing.T) {
	server := redistest.Start(t)
	l := open(t, server.URL(), "")
	for i := range 20 {
		server.CLI("CLIENT", "KILL", "TYPE", "normal")
		s := alice
		s.Request = strconv.Itoa(i)
		if r := take(t, l, s, one(20, time.Hour)); r.Limits[0].Remaining != int64(19-i) {
			t.Fatalf("request %d: %+v", i, r)
		}
	}
}

func TestDownAtTheStart(t *testing.T) {
	server := redistest.Start(t)
	server.Kill()
	l := open(t, server.URL(), "")
	if _, err := l.Take(t.Context(), alice, one(1, time.Hour)); err == nil {
		t.Fatal("an answer from the dead")
	}
	server.Restart()
	polltest.Until(t, "an answer", func() bool {
		_, err := l.Take(t.Context(), alice, one(100, time.Hour))
		return err == nil
	})
}

// If Redis hangs, a few requests wait for the timeout, and the others fail immediately.
func TestHung(t *testing.T) {
	server := redistest.Start(t)
	l := open(t, server.URL(), "")
	take(t, l, alice, one(100, time.Hour))
	l.timeout = 20 * time.Millisecond
	server.Pause()
	const callers, each = 50, 100
	before := runtime.NumGoroutine()
	var late, hung, most atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				_, err := l.Take(t.Context(), alice, one(100, time.Hour))
				switch {
				case errors.Is(err, errHung):
					hung.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				default:
					t.Errorf("%v from a stopped server", err)
				}
			}
			most.Store(max(most.Load(), int64(runtime.NumGoroutine()-before)))
		})
	}
	start := time.Now()
	wg.Wait()
	t.Logf("%d late, %d hung, %d goroutines, %s", late.Load(), hung.Load(), most.Load(), time.Since(start))
	// All callers may start before the first timeout.
	if most := 2*callers + int64(time.Since(start)/probeEvery); late.Load() > most {
		t.Errorf("%d requests waited for the timeout, want at most %d", late.Load(), most)
	}
	if most.Load() > 4*callers {
		t.Errorf("%d goroutines for %d callers", most.Load(), callers)
	}
	server.Resume()
	l.timeout = 10 * time.Second
	polltest.Until(t, "an answer", func() bool {
		_, err := l.Take(t.Context(), alice, one(100, time.Hour))
		return err == nil
	})
	if r := take(t, l, alice, one(100, time.Hour)); r.Limited() { // the pause is over
		t.Errorf("%+v", r)
	}
}

func TestBreaker(t *testing.T) {
	var b breaker
	now := time.Unix(1_800_000_000, 0)
	allows := func(want bool) {
		t.Helper()
		if b.allows(now) != want {
			t.Fatalf("allows: %t, want %t", !want, want)
		}
	}
	for range 2 {
		b.missed(now)
		allows(true)
	}
	b.answered() // so that the timeouts are not consecutive
	for range hungAfter {
		allows(true)
		b.missed(now)
	}
	allows(false)
	for range 3 {
		now = now.Add(probeEvery)
		allows(true)
		allows(false)
		b.missed(now)
	}
	b.answered()
	allows(true)
	allows(true)
}

func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	l := open(t, cluster.URL(), "")
	for _, s := range []ratelimit.Subject{alice, bob, {Key: "key_carol"}, {Key: "key_dan", Owner: "}"}} {
		polltest.Until(t, "an answer for "+s.Key, func() bool {
			r, err := l.Take(t.Context(), s, one(100, time.Hour))
			return err == nil && !r.Limited()
		})
	}
	r, err := l.Look(t.Context(), bob, one(100, time.Hour))
	if err != nil || r.Limits[1].Remaining > 98 {
		t.Errorf("%+v, %v; want both keys to have spent what they share", r, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, o := range []Options{
		{URL: "redis://localhost:1", Prefix: "a{b}"},
		{URL: "http://user:hunter2@localhost"},
		{},
	} {
		if l, err := Open(t.Context(), o); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Open(%+v) = %v, %v", o, l, err)
		}
	}
}
