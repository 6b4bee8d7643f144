package e2e_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"extauthz/certtest"
	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/polltest"
	"extauthz/proctest"
)

// Faults of the server, its configuration and its files.
var serverFaults = []fault{
	{
		name:     "a key file has a mistake",
		alerts:   []string{"ExtauthzReloadFailed"},
		sections: map[string][]string{"A change is not live": {"extauthz_last_reload_successful 0", "did you mean 10.0.0.0/8", "reloading the keys failed"}},
		scene:    badKeyFile,
	},
	{
		name:     "the configuration has a mistake",
		alerts:   []string{"ExtauthzConfigReloadFailed"},
		sections: map[string][]string{"A change is not live": {"extauthz_config_last_reload_successful 0", "no_such_field", "reloading the configuration failed"}},
		scene:    badConfiguration,
	},
	{
		name:     "checks are too large",
		alerts:   []string{"ExtauthzUnreadableChecks"},
		sections: map[string][]string{"Callers get 503": {`extauthz_unreadable_checks_total{reason="too_large"} `}},
		scene:    largeChecks,
		during:   5,
	},
	{
		name:     "everything is let through",
		alerts:   []string{"ExtauthzDryRun"},
		sections: map[string][]string{"Every request is let through": {"extauthz_dry_run 1", "dry_run: true", "dry_run request_id="}},
		scene:    dryRun,
		step:     5 * time.Minute,
	},
	{
		name:     "the disk of the decision log is full",
		alerts:   []string{"ExtauthzDecisionsDropped"},
		sections: map[string][]string{"The decision log has gaps": {"no space left on device", "extauthz_decision_log_dropped_total"}},
		scene:    diskFull,
		during:   2,
	},
	{
		name:     "nobody reads the log",
		alerts:   []string{"ExtauthzLogLinesLost"},
		sections: map[string][]string{"Log lines are lost": {"extauthz_log_lines_dropped_total", "pipe:"}},
		scene:    logUnread,
		during:   2,
	},
	{
		name:     "the certificate expires",
		alerts:   []string{"ExtauthzCertificateExpires"},
		sections: map[string][]string{"The certificate expires": {"extauthz_tls_certificate_expiry_timestamp_seconds"}},
		scene:    certificateExpires,
		during:   3,
	},
	{
		name:     "the server is killed",
		alerts:   []string{"ExtauthzDown"},
		sections: map[string][]string{"Server down": {"connection refused", "msg=serving"}},
		scene:    killed,
	},
}

func badKeyFile(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	s.through(t, gateway{}, string(listed))
	s.fail = func() {
		s.WriteKeys(t, strings.Replace(keys, "[127.0.0.1, 10.0.0.0/8]", "[10.1.2.3/8]", 1))
		polltest.Until(t, "the mistake is noticed", func() bool { return s.has("extauthz_last_reload_successful 0") })
	}
	return s
}

func badConfiguration(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	s.through(t, gateway{}, string(listed))
	s.fail = func() {
		s.edit(t, func(text string) string { return text + "no_such_field: 1\n" })
		polltest.Until(t, "the mistake is noticed", func() bool { return s.has("extauthz_config_last_reload_successful 0") })
	}
	return s
}

func largeChecks(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys, Config: "grpc: {max_message_size: 16384}\n"})
	front := s.through(t, gateway{}, string(listed))
	s.fail = func() {
		s.load = func() {
			send(t, front, call{header: headers("X-Api-Key", string(listed), "X-Large", strings.Repeat("x", 20_000))})
		}
	}
	return s
}

func dryRun(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	s.through(t, gateway{}, string(elsewhere))
	s.fail = func() {
		s.edit(t, func(text string) string { return text + "dry_run: true\n" })
		polltest.Until(t, "the dry run begins", func() bool { return s.has("extauthz_dry_run 1") })
	}
	return s
}

// diskFull fills the buffer, because nothing can be written to the disk.
func diskFull(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys, Config: "decision_log: {path: /dev/full, allowed: 1}\n"})
	c := newChecked(t, s.Server)
	s.load = func() { c.flood(t, 20, open, longPath) }
	s.fail = func() {
		s.load = func() { c.flood(t, 100, open, longPath) }
		polltest.Until(t, "decisions are dropped", func() bool {
			c.flood(t, 1000, open, longPath)
			return !s.has("extauthz_decision_log_dropped_total 0")
		})
	}
	return s
}

// logUnread is a server whose standard error is a pipe that nothing reads any more.
func logUnread(t *testing.T) *scene {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "keys.yaml"), keys)
	writeFile(t, filepath.Join(dir, "extauthz.yaml"),
		"listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\nlog: {level: debug}\nshutdown: {drain: 0s}\nstore: {yaml: {path: keys.yaml}}\n")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	cmd := exec.Command(harness.Extauthz(t), "serve", "--config", filepath.Join(dir, "extauthz.yaml"))
	cmd.Stderr = w
	p := proctest.Start(t, "extauthz", cmd, nil)
	_ = w.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() && !strings.Contains(lines.Text(), "msg=serving") {
	}
	field := func(name string) string {
		_, rest, _ := strings.Cut(lines.Text(), " "+name+"=")
		value, _, _ := strings.Cut(rest, " ")
		return value
	}
	s := &scene{Server: &harness.Server{Process: p, Addr: field("listen"), Admin: field("admin"), Dir: dir}, log: "nothing\n"}
	c := newChecked(t, s.Server)
	s.load = func() { c.flood(t, 10, open, longPath) }
	s.fail = func() {
		s.load = func() { c.flood(t, 100, open, longPath) }
		polltest.Until(t, "lines are lost", func() bool {
			c.flood(t, 500, open, longPath)
			return !s.has("extauthz_log_lines_dropped_total 0")
		})
	}
	return s
}

func certificateExpires(t *testing.T) *scene {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	issue := func(days time.Duration) {
		certtest.New(t).Issue(t, certtest.Certificate{Names: []string{"extauthz.example.com"}, NotAfter: time.Now().Add(days * 24 * time.Hour)}, cert, key)
	}
	issue(90)
	s := startScene(t, harness.Settings{Keys: keys, Config: fmt.Sprintf("tls: {cert_file: %q, key_file: %q}\n", cert, key)})
	s.fail = func() {
		issue(3)
		polltest.Until(t, "the certificate is read", func() bool { return strings.Contains(s.Log(), "reloaded the TLS files") })
	}
	return s
}

func killed(t *testing.T) *scene {
	s := startScene(t, harness.Settings{Keys: keys})
	s.fail = s.Kill
	return s
}

// longPath makes a decision's log line long.
var longPath = "/" + strings.Repeat("long", 250)

// flood sends n checks with the secret, some concurrently.
func (c *checked) flood(t *testing.T, n int, secret keystore.Secret, path string) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for ; i < n; i += 16 {
				if _, err := c.check(t.Context(), secret, path); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
