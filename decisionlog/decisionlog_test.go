package decisionlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/ratelimit"
)

// full is an observation with every field.
func full() *check.Observation {
	return &check.Observation{
		Decision: authz.Decision{
			Code: authz.RateLimited, Key: &keystore.Key{ID: "key_a", ExternalID: "acme", Name: "Acme", Meta: nil},
			WouldRefuse: true, PreviousSecret: true, Stale: true,
			Limits: &ratelimit.Result{Limits: []ratelimit.Status{
				{Charge: ratelimit.Charge{Name: "requests", Limit: 100, Duration: time.Minute, Cost: 1}, Remaining: 0, Wait: time.Second},
				{Charge: ratelimit.Charge{Name: "exports", Limit: 5, Duration: time.Hour, Cost: 2}, Remaining: 3},
			}},
		},
		Err: errors.New("store: down"), LetThrough: true,
		ClientAddr: netip.MustParseAddr("2001:db8::7"), AddrFrom: "x-forwarded-for", AddrErr: errors.New("few\nentries"),
		Permissions: "a AND b", Ratelimits: "exports=2", RouteErr: errors.New("a path with %2f"),
		RequestID: "r-1", TraceParent: caller, Peer: "192.0.2.1", Method: "GET", Host: "api.example.com", Path: "/a/\"b\"\u009b\x1b[2J\xff",
		Duration: 12345,
	}
}

const (
	caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	proxy  = "0af7651916cd43dd8448eb211c80319c" // a trace id
)

func TestLine(t *testing.T) {
	const want = `{"version":1,"type":"decision","time":"2027-01-31T23:59:59.000001Z","code":"RATE_LIMITED","allowed":true,"dry_run":true,` +
		`"key_id":"key_a","owner":"acme","stale":true,"would_refuse":true,"previous_secret":true,` +
		`"client_address":"2001:db8::7","client_address_from":"x-forwarded-for","client_address_error":"few\u000aentries","peer":"192.0.2.1",` +
		`"request_id":"r-1","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","trace_id_from":"caller",` +
		`"method":"GET","host":"api.example.com","path":"/a/\"b\"\u009b\u001b[2J\ufffd","permissions":"a AND b","ratelimits":"exports=2","route_error":"a path with %2f",` +
		`"limits":[{"name":"requests","cost":1,"limit":100,"remaining":0,"duration_ns":60000000000,"wait_ns":1000000000},` +
		`{"name":"exports","cost":2,"limit":5,"remaining":3,"duration_ns":3600000000000,"wait_ns":0}],` +
		`"error":"store: down","duration_ns":12345,"share":0.25}` + "\n"
	o := full()
	trace, from := callersTrace(o)
	now := time.Date(2027, 2, 1, 0, 59, 59, 1000, time.FixedZone("", 3600))
	got := string(appendDecision(nil, o, now, trace, from, "0.25"))
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(got), &fields); err != nil {
		t.Error(err)
	}
	const least = `{"version":1,"type":"decision","time":"2027-01-31T23:59:59.000001Z","code":"UNAVAILABLE","allowed":false,"duration_ns":0,"share":1}` + "\n"
	if got := string(appendDecision(nil, new(check.Observation), now, "", "", "1")); got != least {
		t.Errorf("got\n%swant\n%s", got, least)
	}
	if got := string(appendDropped(nil, 7, now.Add(-time.Second), now)); got != `{"version":1,"type":"dropped","time":"2027-01-31T23:59:59.000001Z","since":"2027-01-31T23:59:58.000001Z","dropped":7}`+"\n" {
		t.Error(got)
	}
}

// docs/decision-log.md has exactly one row for each field of a line.
func TestDocumentedFields(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "decision-log.md"))
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, row[1])
	}
	var fields []string
	for _, line := range [][]byte{appendDecision(nil, full(), time.Now(), "t", "caller", "1"), appendDropped(nil, 1, time.Now(), time.Now())} {
		d := json.NewDecoder(bytes.NewReader(line))
		path, key := []string{}, true
		for {
			token, err := d.Token()
			if err != nil {
				break
			}
			switch v := token.(type) {
			case json.Delim:
				switch v {
				case '{':
					key = true
				case '}':
					key = true
				case '[':
					path = append(path, fields[len(fields)-1]+"[].")
				case ']':
					path, key = path[:len(path)-1], true
				}
			case string:
				if key {
					fields = append(fields, strings.Join(path, "")+v)
				}
				key = !key
			default:
				key = true
			}
		}
	}
	slices.Sort(fields)
	slices.Sort(documented)
	if fields = slices.Compact(fields); !slices.Equal(fields, slices.Compact(documented)) {
		t.Errorf("the lines have\n%s\ndocumented are\n%s", fields, documented)
	}
	_, mapping, _ := strings.Cut(string(text), "| here | OCSF API Activity | ECS |")
	rows := regexp.MustCompile(`(?m)^\| ([a-z_, ]+) \|`).FindAllStringSubmatch(mapping, -1)
	if len(rows) < 15 {
		t.Errorf("mapped elsewhere: %s", rows)
	}
	for _, row := range rows {
		for name := range strings.SplitSeq(row[1], ", ") {
			if !slices.Contains(fields, name) && name != "all others" {
				t.Errorf("mapped elsewhere: there is no field %s", name)
			}
		}
	}
}

// No secret is written, and of a key's record only its id and its owner.
func TestNoSecret(t *testing.T) {
	o := full()
	o.Decision.Key = &keystore.Key{
		ID: "key_a", Name: "classified", Hash: keystore.Secret("classified").Hash(), Permissions: []string{"classified"},
		Ratelimits: []keystore.Ratelimit{{Name: "classified"}},
	}
	line := string(appendDecision(nil, o, time.Now(), "", "", "1"))
	if strings.Contains(line, "classified") || strings.Contains(line, o.Decision.Key.Hash.String()) {
		t.Error(line)
	}
}

func FuzzString(f *testing.F) {
	for _, s := range []string{"", "a\"\\\n\x00\x7f", "é\u2028\u202e\xff\xc3", "\U0001f600"} {
		f.Add(s)
	}
	for c := range 256 { // between characters that need no escape, at each place among eight
		for i := range 8 {
			f.Add("12345678"[i:] + string([]byte{byte(c)}) + "!~!~ ~!~!~")
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != string([]rune(s)) {
			t.Fatalf("%q: %s is %q, %v", s, b, got, err)
		}
		for _, r := range string(b) {
			if r < 0x20 || 0x7f <= r && r <= 0x9f || r == 0x202e {
				t.Fatalf("%q: %q holds %U", s, b, r)
			}
		}
	})
}

func TestCallersTrace(t *testing.T) {
	if got, from := callersTrace(&check.Observation{TraceParent: caller}); got != "4bf92f3577b34da6a3ce929d0e0e4736" || from != "caller" {
		t.Errorf("%s from %s", got, from)
	}
	if got, from := callersTrace(&check.Observation{TraceParent: "none"}); got != "" || from != "" {
		t.Errorf("%s from %s", got, from)
	}
}

// Samplers agree on a trace, whatever else they process, and select their share.
func TestSamplesAgree(t *testing.T) {
	half, tenth := newSampler(0.5), newSampler(0.1)
	takenHalf, takenTenth, byRequest := 0, 0, 0
	const n = 20_000
	for i := range n {
		trace := fmt.Sprintf("%016x%016x", i, hash(fmt.Sprint(i)))
		h, s := half.takes(trace, fmt.Sprint(i)), tenth.takes(trace, "another")
		if s && !h {
			t.Fatalf("the trace %s is in a tenth, and not in a half", trace)
		}
		if h != half.takes(trace, "") {
			t.Fatalf("samplers disagree on %s", trace)
		}
		if h {
			takenHalf++
		}
		if s {
			takenTenth++
		}
		if tenth.takes("", fmt.Sprintf("b3ae2f17-68c4-4f2a-9d4a-%012d", i)) {
			byRequest++
		}
	}
	for got, share := range map[int]float64{takenHalf: 0.5, takenTenth: 0.1, byRequest: 0.1} {
		if d := float64(got)/n - share; d < -0.02 || d > 0.02 {
			t.Errorf("%d of %d are in the sample, want a share of %g", got, n, share)
		}
	}
	// The rule of OpenTelemetry: the last 56 bits of the trace id are at least (1 - share) * 2^56.
	for trace, want := range map[string]bool{
		"ffffffffffffffffff80000000000000": true, "ffffffffffffffffff7fffffffffffff": false,
	} {
		if half.takes(trace, "") != want {
			t.Errorf("%s in a half: %t, want %t", trace, !want, want)
		}
	}
	never, always := newSampler(0), newSampler(1)
	if never.takes(strings.Repeat("f", 32), "") || !always.takes(strings.Repeat("0", 32), "") {
		t.Error("a share of 0 takes something, or one of 1 does not take everything")
	}
}

// A disk is a writer that can be slow, full or broken.
type disk struct {
	mu    sync.Mutex
	b     bytes.Buffer
	block chan struct{} // not nil: a write waits until it is closed
	fail  func(p []byte) int
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	block := d.block
	d.mu.Unlock()
	if block != nil {
		<-block
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		if n := d.fail(p); n >= 0 {
			d.b.Write(p[:n])
			return n, errors.New("no space left on device")
		}
	}
	return d.b.Write(p)
}

func (d *disk) set(block chan struct{}, fail func(p []byte) int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.block, d.fail = block, fail
}

func (d *disk) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.b.String()
}

// count returns the number of decisions in the lines, the number that they report as dropped, and the lines
// that are not JSON.
func count(t *testing.T, text string) (decisions, dropped int, broken []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l struct {
			Type    string
			Dropped int
		}
		if json.Unmarshal([]byte(line), &l) != nil {
			broken = append(broken, line)
			continue
		}
		dropped += l.Dropped
		if l.Type == "decision" {
			decisions++
		}
	}
	return decisions, dropped, broken
}

func open(t *testing.T, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// A disk that hangs delays no decision, and no line is lost without a line that reports it.
func TestSlowDisk(t *testing.T) {
	stuck := make(chan struct{})
	d := &disk{block: stuck}
	l := open(t, Config{Writer: d, Refused: 1})
	const n, callers = 50_000, 4
	var wg sync.WaitGroup
	start := time.Now()
	for range callers {
		wg.Go(func() {
			o := full()
			for range n / callers {
				if !l.Record(o, proxy, "proxy") {
					t.Error("refused, without Refuse")
				}
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("%d decisions took %s", n, took)
	}
	if s := l.Stats(); s.Dropped == 0 || s.Pending > DefaultBuffer+1024 {
		t.Errorf("%+v: want some dropped, and the buffer bounded", s)
	}
	d.set(nil, nil)
	close(stuck)
	if lost := l.Close(); lost != 0 {
		t.Errorf("%d lost at the end", lost)
	}
	decisions, dropped, broken := count(t, d.text())
	const oneBuffer = DefaultBuffer / 1024 // a line is shorter than 1 KiB; the writer may have had another buffer
	if decisions+dropped != n || decisions < oneBuffer || len(broken) > 0 {
		t.Errorf("%d decisions and %d dropped, want %d together; broken: %.3q", decisions, dropped, n, broken)
	}
	if s := l.Stats(); s.Written != uint64(decisions) || s.Dropped != uint64(dropped) {
		t.Errorf("%+v", s)
	}
}

// If a disk is full for a while and cuts lines, no line is lost.
func TestFullDisk(t *testing.T) {
	var failed []error
	var mu sync.Mutex
	d := &disk{}
	l := open(t, Config{Writer: d, Refused: 1, OnError: func(err error) { mu.Lock(); failed = append(failed, err); mu.Unlock() }})
	left := 5
	d.set(nil, func(p []byte) int {
		if left--; left < 0 {
			return -1
		}
		return max(len(p)/(left+2)-3, 0) // lines have similar lengths: not at the end of one
	})
	for range 100 {
		l.Record(full(), "", "")
	}
	polltest.Until(t, "all are written", func() bool { return l.Stats().Written == 100 })
	decisions, dropped, broken := count(t, d.text())
	if decisions != 100 || dropped != 0 || len(broken) == 0 {
		t.Errorf("%d decisions, %d dropped, cut lines: %d", decisions, dropped, len(broken))
	}
	mu.Lock()
	defer mu.Unlock()
	if len(failed) != 5 || l.Stats().Errors != 5 {
		t.Errorf("%d errors: %v", len(failed), failed)
	}
}

// With Refuse, a decision that does not fit the buffer is reported, until there is room again.
func TestRefuse(t *testing.T) {
	stuck := make(chan struct{})
	d := &disk{block: stuck}
	l := open(t, Config{Writer: d, Allowed: 0, Refused: 1, Refuse: true, Buffer: 10_000})
	for l.Record(full(), "", "") {
	}
	allowed := full()
	allowed.Decision = authz.Decision{Code: authz.Valid, Key: &keystore.Key{ID: "key_a"}}
	if !l.Record(allowed, "", "") {
		t.Error("a decision that is not in the sample is refused")
	}
	d.set(nil, nil)
	close(stuck)
	polltest.Until(t, "there is room again", func() bool { return l.Record(full(), "", "") })
	l.Close()
	if l.Record(full(), "", "") {
		t.Error("a closed log records")
	}
	if _, dropped, _ := count(t, d.text()); dropped == 0 {
		t.Error("no line says what was dropped")
	}
}

// Close does not wait for a disk that hangs.
func TestCloseWhileStuck(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	l := open(t, Config{Writer: &disk{block: stuck}, Refused: 1})
	for range 3 {
		l.Record(full(), "", "")
	}
	if lost := l.Close(); lost != 3 {
		t.Errorf("%d lost, want 3", lost)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "decisions.log")
	l := open(t, Config{Path: path, Refused: 1, MaxSize: 1, Keep: 2})
	const n = 6000 // about 5 MB
	for range n {
		for !recordWhole(l) {
			time.Sleep(time.Millisecond)
		}
	}
	polltest.Until(t, "all are written", func() bool { return l.Stats().Written == n })
	l.Rotate()
	polltest.Until(t, "it is rotated on request, and only two old files are kept", func() bool {
		files, _ := filepath.Glob(filepath.Join(dir, "decisions*"))
		info, err := os.Stat(path)
		return err == nil && info.Size() == 0 && len(files) == 3
	})
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, broken := count(t, string(text)); len(broken) > 0 || len(text) > 1<<20 {
			t.Errorf("%s: %d bytes, cut lines: %.2q", f, len(text), broken)
		}
		if info, _ := os.Stat(f); info.Mode().Perm() != fileMode {
			t.Errorf("%s has the mode %s", f, info.Mode())
		}
	}
	// Another program moved the file away.
	l.Record(full(), "", "")
	polltest.Until(t, "written", func() bool { return l.Stats().Written == n+1 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Rotate()
	polltest.Until(t, "a new file", func() bool { _, err := os.Stat(path); return err == nil })
	l.Record(full(), "", "")
	l.Close()
	if text, _ := os.ReadFile(path); bytes.Count(text, []byte{'\n'}) != 1 {
		t.Errorf("the new file holds %q", text)
	}
}

// recordWhole records if there is plenty of room.
func recordWhole(l *Log) bool { return l.Stats().Pending < DefaultBuffer/2 && l.Record(full(), "", "") }

func TestOpenFails(t *testing.T) {
	if _, err := Open(Config{Path: filepath.Join(t.TempDir(), "missing", "decisions.log")}); err == nil || !strings.HasPrefix(err.Error(), "decision_log: ") {
		t.Error(err)
	}
	if _, err := Open(Config{Path: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "neither a file nor a device") {
		t.Error(err)
	}
	l, err := Open(Config{Path: "/dev/null"})
	if err != nil || l.file != nil {
		t.Errorf("a device is opened as %v, %v: it must not be rotated", l.file, err)
	}
	l.Rotate()
	l.Close()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestRecordAllocatesNothing(t *testing.T) {
	l := open(t, Config{Writer: discard{}, Refused: 1, Allowed: 0.5})
	o, allowed := full(), full()
	o.AddrErr, o.RouteErr, o.Err = nil, nil, nil // as the text of an error is made when it is written
	allowed.Decision.Code, allowed.Decision.WouldRefuse = authz.Valid, false
	for range 10_000 {
		l.Record(o, proxy, "proxy")
	}
	if n := testing.AllocsPerRun(20_000, func() { l.Record(o, proxy, "proxy"); l.Record(allowed, "", "") }); n > 0.5 {
		t.Errorf("%g allocations", n)
	}
}

func TestTime(t *testing.T) {
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(1, 999_999_999), time.Unix(1, 1_000), time.Unix(1, 999), time.Unix(-1, 10_000),
		time.Date(2027, 12, 31, 23, 59, 59, 100_200_300, time.FixedZone("", 3600)), time.Now(),
	} {
		for range 2 { // the second time from the last second
			if got, want := string(appendTime(nil, at)), at.UTC().Format("2006-01-02T15:04:05.000000Z"); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
}

// BenchmarkRecord measures the CPU time of one decision, including its share of the writer's: for an ordinary
// refusal, one with all fields, and one that is not in the sample.
func BenchmarkRecord(b *testing.B) {
	ordinary, all := full(), full()
	all.AddrErr, all.RouteErr, all.Err = nil, nil, nil
	*ordinary = check.Observation{
		Decision: authz.Decision{Code: authz.Forbidden, Key: all.Decision.Key}, ClientAddr: all.ClientAddr, AddrFrom: "peer", Peer: "203.0.113.9",
		RequestID: "b3ae2f17-68c4-4f2a-9d4a-1f3f2b1c0d9e", Method: "GET", Host: "api.example.com", Path: "/documents/17", Duration: 5210,
	}
	for _, bench := range []struct {
		name   string
		o      *check.Observation
		parent string
		share  float64
	}{{"refused", ordinary, "", 1}, {"all-fields", all, proxy, 1}, {"unwritten", all, proxy, 0.0001}} {
		b.Run(bench.name, func(b *testing.B) {
			l, _ := Open(Config{Path: filepath.Join(b.TempDir(), "decisions.log"), Refused: bench.share, MaxSize: 1000})
			defer l.Close()
			b.ReportAllocs()
			before, n := cpuTime(b), 0
			for b.Loop() {
				l.Record(bench.o, bench.parent, "proxy")
				for n++; n%64 == 0 && l.Stats().Pending > 2*flushAt; { // growth of the buffer is not measured
					time.Sleep(100 * time.Microsecond)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(n), "cpu-ns/op")
		})
	}
}

// cpuTime returns the CPU time of the process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
