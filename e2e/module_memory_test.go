package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/keystore"
)

// soak is how long the module's memory is watched; EXTAUTHZ_SOAK makes it longer, such as 1h.
func soak(t *testing.T) time.Duration {
	text := os.Getenv("EXTAUTHZ_SOAK")
	if text == "" {
		return 6 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("EXTAUTHZ_SOAK: %v", err)
	}
	return d
}

// resident returns how much memory a process takes, in MiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 20
}

// Memory does not grow with the requests, of which some are refused, some wait for the store, and some have
// more than fits on a worker's stack, nor with reloads.
func TestModuleMemory(t *testing.T) {
	t.Parallel()
	g, _ := remoteParity(t, "redis")
	g.fill()
	remote, local := newModule(t, "", g.config), newModule(t, keys, "")
	l := listeners{t.TempDir()}
	l.write(t, true, map[string][]string{"remote": {remote.config()}, "local": {local.config()}})
	upstream := harness.StartUpstream(t)
	envoy := harness.StartEnvoy(t, l.bootstrap(harness.EnvoyAddress(t, upstream.Addr)))
	stops := []func() map[int]int{
		load(t, envoy.Addr("local"), open, 2),
		load(t, envoy.Addr("local"), keystore.Secret(strings.Repeat("large", 1000)), 1),
		load(t, envoy.Addr("remote"), "acme_busy", 2), // its limit is across the network, so that it waits
		load(t, envoy.Addr("remote"), "acme_unknown", 1),
	}
	watch, began := soak(t), time.Now()
	var first, last int
	for i := 0; time.Since(began) < watch || last == 0; i++ {
		local.write(t, "keys.yaml", keys+record(fmt.Sprintf("key_added_%d", i), keystore.Secret(fmt.Sprintf("acme_added_%d", i))))
		long := call{path: "/" + strings.Repeat("long/", 2000)}
		send(t, envoy.Addr("local"), long).wantRefusal(t, 401, "MISSING_KEY", "")
		time.Sleep(200 * time.Millisecond)
		upstream.Forget()
		if last = resident(t, envoy.Pid()); time.Since(began) < watch/3 {
			first = max(first, last)
		}
		if i%300 == 0 {
			t.Logf("after %s: %d MiB", time.Since(began).Round(time.Second), last)
		}
	}
	total := map[int]int{}
	for _, stop := range stops {
		for status, n := range stop() {
			total[status] += n
		}
	}
	t.Logf("%d MiB at first, %d at the end; answers: %v", first, last, total)
	if last > first+first/4+16 {
		t.Errorf("%d MiB at first, %d at the end", first, last)
	}
	// On a busy machine, Redis may be too late now and then.
	if total[0] > 0 || total[503] > total[200]/100 || total[200] == 0 || total[401] == 0 {
		t.Errorf("answers: %v", total)
	}
	if code := envoy.Stop(); code != 0 {
		t.Errorf("Envoy ended with %d", code)
	}
}
