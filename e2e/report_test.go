package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
)

// reportingKeys have a whitelist in report mode, except for key_enforced and key_open.
var reportingKeys = func() string {
	const list, report = "ip_whitelist: [192.0.2.7, 127.0.0.9]", "ip_whitelist_mode: report"
	text := "keys:\n"
	for id, more := range map[string][]string{
		"key_report": {list, report}, "key_enforced": {list}, "key_open": {report}, "key_disabled": {list, report, "enabled: false"},
		"key_expired": {list, report, "expires: 2020-01-31T00:00:00Z"}, "key_metered": {list, report, twoAnHour},
	} {
		text += record(id, reportingSecret(id), more...)
	}
	return text
}()

func reportingSecret(id string) keystore.Secret { return keystore.Secret("sk_" + id) }

// reportStores are the kinds of stores: each returns the store field of a configuration.
func reportStores(t *testing.T) map[string]func(*testing.T) string {
	t.Helper()
	stores := map[string]func(*testing.T) string{
		"yaml": func(t *testing.T) string {
			return fmt.Sprintf("{yaml: {path: %q}}", filepath.Join(t.TempDir(), "keys.yaml"))
		},
	}
	for kind, open := range databases {
		stores[kind] = func(t *testing.T) string {
			db := open(t)
			return db.store(db.addr)
		}
	}
	return stores
}

// code returns the code in a response.
func (r result) code() string {
	var body refusal
	switch {
	case r.status == 200:
		return "VALID"
	case json.Unmarshal([]byte(r.body), &body) != nil:
		return r.body
	}
	return body.Data.Code
}

// A whitelist in report mode refuses no address, does not change the order of the checks, and reports what
// it would have refused: in the metadata, the decision log, the metrics and the usage that two replicas
// record. In enforce mode, it refuses.
func TestReportMode(t *testing.T) {
	t.Parallel()
	for kind, store := range reportStores(t) {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			testReportMode(t, store(t))
		})
	}
}

func testReportMode(t *testing.T, store string) {
	dir := t.TempDir()
	file := filepath.Join(dir, "extauthz.yaml")
	config := fmt.Sprintf("store: %s\ncache: {lookup_timeout: 2s}\nusage: {record: true, flush: 100ms, path: %s/usage.db}\nroutes: [{path_prefix: /admin, permissions: admin}]\n", store, dir)
	writeFile(t, file, config)
	extauthz := func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), harness.Extauthz(t), append(args, "--config", file)...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("extauthz %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	extauthz("", "store", "migrate")
	extauthz(reportingKeys, "key", "import", "--from", "-")

	var servers []*harness.Server
	var addrs, logs []string
	for i := range 2 {
		logs = append(logs, filepath.Join(dir, fmt.Sprintf("decisions%d.log", i)))
		servers = append(servers, harness.StartExtauthz(t, harness.Settings{
			Config: config + fmt.Sprintf("ratelimit: {store: memory}\ndecision_log: {path: %q, allowed: 1}\n", logs[i]),
		}))
		addrs = append(addrs, servers[i].Addr)
	}
	envoy := gateway{Servers: addrs, Upstream: harness.StartUpstream(t).Addr}.start(t)
	front := envoy.Addr("front")

	total := map[string]int{} // the requests from each address, by key
	would := 0
	for i, c := range []struct {
		id, path, from string
		code           string
		wouldRefuse    bool
	}{
		{"key_report", "/things", "127.0.0.1", "VALID", true},
		{"key_report", "/things", "127.0.0.2", "VALID", true},
		{"key_report", "/things", "127.0.0.9", "VALID", false},
		{"key_report", "/admin", "127.0.0.1", "INSUFFICIENT_PERMISSIONS", true},
		{"key_report", "/admin", "127.0.0.9", "INSUFFICIENT_PERMISSIONS", false},
		{"key_enforced", "/things", "127.0.0.1", "FORBIDDEN", false},
		{"key_enforced", "/admin", "127.0.0.1", "FORBIDDEN", false},
		{"key_enforced", "/things", "127.0.0.9", "VALID", false},
		{"key_open", "/things", "127.0.0.1", "VALID", false},
		{"key_disabled", "/things", "127.0.0.1", "DISABLED", false},
		{"key_expired", "/things", "127.0.0.1", "EXPIRED", false},
	} {
		for n := range 4 { // by both replicas
			path := fmt.Sprintf("%s/%d-%d", c.path, i, n)
			r := send(t, front, call{path: path, from: c.from, header: headers("X-Api-Key", string(reportingSecret(c.id)))})
			if code := r.code(); code != c.code {
				t.Errorf("%s from %s: %s, want %s", c.id, c.from, code, c.code)
			}
			if r.header.Get("would_refuse") != "" || strings.Contains(r.body, "would_refuse") {
				t.Errorf("%s from %s: the caller sees %v %s", c.id, c.from, r.header, r.body)
			}
			line := accessLog(t, envoy, path)
			if !strings.Contains(line, fmt.Sprintf(`"code":%q`, c.code)) || strings.Contains(line, `"would_refuse":"FORBIDDEN"`) != c.wouldRefuse {
				t.Errorf("%s from %s: metadata %s", c.id, c.from, line)
			}
			total[c.id+" "+c.from+" "+c.code]++
			if c.wouldRefuse {
				would++
			}
			if c.wouldRefuse && c.code == "VALID" {
				total[c.id+" "+c.from+" would"]++
			}
		}
	}
	// Its limit is counted by each replica.
	limited := 0
	for range 8 {
		r := send(t, front, call{path: "/metered", header: headers("X-Api-Key", string(reportingSecret("key_metered")))})
		switch code := r.code(); code {
		case "VALID":
			total["key_metered 127.0.0.1 VALID"]++
			total["key_metered 127.0.0.1 would"]++
		case "RATE_LIMITED":
			total["key_metered 127.0.0.1 RATE_LIMITED"]++
			limited++
		default:
			t.Errorf("key_metered: %s", code)
		}
		would++
	}
	if limited != 4 {
		t.Errorf("%d of 8 requests were limited by two replicas that allow 2 each", limited)
	}

	counted, written := 0, 0
	for i, s := range servers {
		m := s.Metrics(t)
		n, err := strconv.Atoi(regexp.MustCompile(`(?m)^extauthz_would_refuse_total (\d+)$`).FindStringSubmatch(m)[1])
		if err != nil || n == 0 {
			t.Errorf("replica %d counts %d, %v", i, n, err)
		}
		counted += n
		if !strings.Contains(m, "\nextauthz_keys_report_mode 4\n") { // key_open has nothing to report
			t.Errorf("replica %d: %s", i, regexp.MustCompile(`extauthz_keys_report_mode \d+`).FindString(m))
		}
	}
	if counted != would {
		t.Errorf("both replicas count %d that would be refused, want %d", counted, would)
	}
	polltest.Until(t, "the decisions are logged", func() bool {
		written = 0
		for _, path := range logs {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			written += strings.Count(string(text), `"would_refuse":true`)
		}
		return written >= would
	})
	if written != would {
		t.Errorf("the decision logs have %d that would be refused, want %d", written, would)
	}
	var got map[string]int
	polltest.NoError(t, func() error {
		got = map[string]int{}
		for _, id := range []string{"key_report", "key_enforced", "key_open", "key_disabled", "key_expired", "key_metered"} {
			var u struct {
				Addresses []struct {
					Address     string
					Allowed     int
					WouldRefuse int
					Codes       map[string]int
				}
			}
			if err := json.Unmarshal([]byte(extauthz("", "key", "usage", id, "--json")), &u); err != nil {
				t.Fatal(err)
			}
			for _, a := range u.Addresses {
				prefix := id + " " + a.Address + " "
				for code, n := range a.Codes {
					got[prefix+code] = n
				}
				if a.Allowed > 0 {
					got[prefix+"VALID"] = a.Allowed
				}
				if a.WouldRefuse > 0 {
					got[prefix+"would"] = a.WouldRefuse
				}
			}
		}
		if !reflect.DeepEqual(got, total) {
			return fmt.Errorf("usage is %v, want %v", got, total)
		}
		return nil
	})

	extauthz("", "key", "enforce", "key_report")
	polltest.NoError(t, func() error {
		for range 4 {
			r := send(t, front, call{from: "127.0.0.2", header: headers("X-Api-Key", string(reportingSecret("key_report")))})
			if code := r.code(); code != "FORBIDDEN" {
				return fmt.Errorf("once the list is enforced: %s", code)
			}
		}
		return nil
	})
}
