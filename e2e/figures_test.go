package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/keystore/postgres"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/keystore/redis"
	"extauthz/redisclient/redistest"
)

// cachedRecords is the number of records that a replica caches and that the load uses.
const cachedRecords = 100_000

// A bigStore is a database with many keys in it.
type bigStore struct {
	config string // the store field of a configuration
	editor keystore.Editor
	keys   int
}

var bigStores = map[string]func(b *testing.B) bigStore{
	"postgres": func(b *testing.B) bigStore {
		dsn := pgtest.Start(b, "fsync=on", "full_page_writes=on").DSN()
		editor, err := postgres.Open(b.Context(), postgres.Options{DSN: dsn})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(editor.Close)
		return bigStore{config: fmt.Sprintf("{postgres: {dsn: %q}}", dsn), editor: editor}
	},
	"redis": func(b *testing.B) bigStore {
		url := redistest.Start(b, "--appendfsync", "everysec").URL()
		editor, err := redis.Open(b.Context(), redis.Options{URL: url})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(editor.Close)
		return bigStore{config: fmt.Sprintf("{redis: {url: %q}}", url), editor: editor}
	},
}

// BenchmarkFigures measures the figures in docs/operations.md about a store with many keys: 1,000,000, or
// the number in EXTAUTHZ_FIGURES_KEYS. Each is measured once: run it with -benchtime=1x. The import fills
// the store for the others.
func BenchmarkFigures(b *testing.B) {
	n := 1_000_000
	if s := os.Getenv("EXTAUTHZ_FIGURES_KEYS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 2*cachedRecords {
			b.Fatalf("EXTAUTHZ_FIGURES_KEYS: %q is no number from %d on", s, 2*cachedRecords)
		}
	}
	file := filepath.Join(b.TempDir(), "keys.yaml")
	writeManyKeys(b, file, n)
	for kind, open := range bigStores {
		b.Run(kind, func(b *testing.B) {
			s := open(b)
			s.keys = n
			b.Run("import", func(b *testing.B) { s.measureImport(b, file) })
			for _, limit := range []string{"auto", "180MiB"} {
				b.Run("memory-limit-"+limit, func(b *testing.B) { s.measureMemory(b, limit) })
			}
			b.Run("cost", s.measureCost)
			b.Run("revoke", s.measureRevoke)
			b.Run("restart", s.measureRestart)
		})
	}
}

// manyID and manySecret are those of the i-th key.
func manyID(i int) string { return fmt.Sprintf("key_%07d", i) }

func manySecret(i int) keystore.Secret { return keystore.Secret(fmt.Sprintf("sk_%021d", i)) }

func writeManyKeys(b *testing.B, path string, n int) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	fmt.Fprintln(w, "keys:")
	for i := range n {
		fmt.Fprintf(w, "  - id: %s\n    name: Customer %d\n    hash: %s\n    ip_whitelist: [10.0.0.0/8, 192.0.2.7, 127.0.0.1]\n",
			manyID(i), i, manySecret(i).Hash())
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// measureImport imports the keys with the program, including its start and reading the file.
func (s bigStore) measureImport(b *testing.B, file string) {
	config := filepath.Join(b.TempDir(), "extauthz.yaml")
	writeFile(b, config, "store: "+s.config+"\n")
	if strings.HasPrefix(s.config, "{postgres") {
		if out, err := exec.CommandContext(b.Context(), harness.Extauthz(b), "store", "migrate", "--config", config).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	cmd := exec.CommandContext(b.Context(), harness.Extauthz(b), "key", "import", "--from", file, "--config", config)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	used := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	b.ReportMetric(float64(s.keys)/took.Seconds(), "keys/s")
	b.ReportMetric(float64(used.Maxrss)/1024, "MB-peak")
	b.ReportMetric((cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(), "CPU-s")
	b.Logf("%s, in %s", strings.TrimSpace(string(out)), took.Round(time.Millisecond))
}

// replica starts a server over the store, with these lines added to its configuration. Its ttl is so long
// that nothing expires during the benchmark.
func (s bigStore) replica(b *testing.B, more ...string) *checked {
	b.Helper()
	lines := append(more, fmt.Sprintf("cache: {size: %d, ttl: 1h}", cachedRecords), "store: "+s.config)
	return newChecked(b, harness.StartExtauthz(b, harness.Settings{Config: strings.Join(lines, "\n")}))
}

// measureMemory fills the cache of a server and continues the load.
func (s bigStore) measureMemory(b *testing.B, limit string) {
	r := s.replica(b, "memory: {limit: "+limit+"}")
	r.each(b, 2*cachedRecords, manySecret) // the second half pushes the first out
	r.each(b, cachedRecords, func(i int) keystore.Secret { return manySecret(cachedRecords + i) })
	b.ReportMetric(r.metric(b, "extauthz_cache_records"), "records")
	b.ReportMetric(r.metric(b, "go_memstats_next_gc_bytes")/(1<<20), "MB-next-GC")
	b.ReportMetric(r.memory(b, "VmRSS"), "MB")
	b.ReportMetric(r.memory(b, "VmHWM"), "MB-peak")
}

// measureCost compares the CPU time of a server with cached keys with that of one with a key file. It
// alternates between them, so that other load on the machine affects both.
func (s bigStore) measureCost(b *testing.B) {
	const hot, rounds, checks = 10_000, 11, 30_000
	cached := s.replica(b)
	file := filepath.Join(b.TempDir(), "keys.yaml")
	writeManyKeys(b, file, cachedRecords)
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	listed := newChecked(b, harness.StartExtauthz(b, harness.Settings{Keys: string(text)}))
	both := []*checked{cached, listed}
	costs := make([][]time.Duration, len(both))
	for _, r := range both {
		r.each(b, cachedRecords, manySecret)
	}
	for round := range rounds {
		for i := range both {
			i = (i + round) % len(both)
			before := both[i].cpu(b)
			both[i].each(b, checks, func(i int) keystore.Secret { return manySecret(i * 7919 % hot) })
			costs[i] = append(costs[i], (both[i].cpu(b)-before)/checks)
		}
	}
	if misses := cached.metric(b, "extauthz_cache_store_lookups_total"); misses > cachedRecords {
		b.Errorf("%v lookups: not every check was cached", misses)
	}
	over, under := median(costs[0]), median(costs[1])
	b.ReportMetric(float64(over)/1e3, "µs-cached")
	b.ReportMetric(float64(under)/1e3, "µs-yaml")
	b.ReportMetric(float64(over)/float64(under), "ratio")
	b.Logf("CPU a check, sorted: cached %v, from a file %v", costs[0], costs[1])
}

// measureRevoke disables keys sequentially, and measures the time from before the edit until both replicas
// refuse the key, while other keys are checked.
func (s bigStore) measureRevoke(b *testing.B) {
	const revoked, workers = 1000, 8
	both := []*checked{s.replica(b), s.replica(b)}
	key := func(i int) keystore.Secret { return manySecret(s.keys - 1 - i) }
	for _, r := range both {
		r.each(b, revoked, key)
	}
	var load background
	start := time.Now()
	for w := range workers {
		load.goWith(func(i int) error { return both[w%2].must(b.Context(), manySecret(i*7919%50_000)) })
	}
	took := make([]time.Duration, revoked)
	for i := range revoked {
		begin := time.Now()
		var wg sync.WaitGroup
		for _, r := range both {
			wg.Go(func() { r.untilRefused(b, key(i)) })
		}
		err := s.editor.Update(b.Context(), manyID(s.keys-1-i), func(k *keystore.Key) error { k.Enabled = false; return nil })
		if err != nil {
			b.Fatal(err)
		}
		wg.Wait()
		took[i] = time.Since(begin)
	}
	checks := load.stop(b)
	b.ReportMetric(float64(median(took).Microseconds())/1e3, "ms-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "ms-p99") // median has sorted them
	b.ReportMetric(float64(slices.Max(took).Microseconds())/1e3, "ms-worst")
	b.ReportMetric(float64(checks)/time.Since(start).Seconds(), "checks/s")
}

// measureRestart kills a server and restarts it. Many callers use the same keys in the same order as soon as
// it is ready.
func (s bigStore) measureRestart(b *testing.B) {
	const hashes, callers = 2000, 64
	r := s.replica(b)
	r.each(b, hashes, manySecret)
	r.Kill()
	r.Restart(b)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range hashes {
				if err := r.must(b.Context(), manySecret(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	lookups := r.metric(b, "extauthz_cache_store_lookups_total")
	if lookups > hashes {
		b.Errorf("%v lookups for %d hashes", lookups, hashes)
	}
	b.ReportMetric(lookups/hashes, "lookups/hash")
	b.ReportMetric(callers, "callers")
}

// median sorts its argument.
func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}
