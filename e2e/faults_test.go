package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"extauthz/e2e/harness"
)

// A fault is a failure of a healthy server, with the alerts that detect it and the sections of the runbook
// that diagnose it.
type fault struct {
	name     string
	alerts   []string                // that fire
	sections map[string][]string     // whose commands are run, and what the first block of them must print
	scene    func(*testing.T) *scene // starts the server
	step     time.Duration           // that one scrape stands for; 0: a minute
	during   int                     // scrapes while the fault lasts; 0: 26
}

// A scene is a running server with the functions that cause a fault.
type scene struct {
	*harness.Server
	key, address string // in the runbook's commands

	load   func() // the callers' requests between two scrapes
	fail   func() // causes the fault, and waits until the server has detected it
	mended func() // checks the server after the runbook's last command; may be nil
	log    string // the server's log; "": what it wrote to its output
}

// faults are all faults with an alert or a section of the runbook.
var faults = slices.Concat(storeFaults, keyFaults, serverFaults)

// unmade are the alerts whose fault a test cannot cause. deploy/prometheus/alerts_test.yaml has series
// for them.
var unmade = map[string]string{
	"ExtauthzPanic": "no request is known on which deciding panics",
}

// Each fault is caused on a running server. Prometheus's alerts fire on the metrics recorded during the
// fault, and not on those before; the commands of the runbook diagnose it.
func TestFaults(t *testing.T) {
	t.Parallel()
	pages := runbook(t)
	all := &seen{series: make(map[string]bool)}
	t.Run("made", func(t *testing.T) {
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				r := f.record(t, pages)
				all.add(r)
			})
		}
	})
	for _, alert := range regexp.MustCompile(`- alert: (\S+)`).FindAllStringSubmatch(deployed(t, "prometheus/alerts.yaml"), -1) {
		made := slices.ContainsFunc(faults, func(f fault) bool { return slices.Contains(f.alerts, alert[1]) })
		if _, ok := unmade[alert[1]]; made == ok {
			t.Errorf("%s: there must be a fault that it detects, or a reason why not", alert[1])
		}
	}
	for title := range pages {
		if !slices.ContainsFunc(faults, func(f fault) bool { _, ok := f.sections[title]; return ok }) {
			t.Errorf("no fault runs the section %q of the runbook", title)
		}
	}
	if all.recordings == len(faults) { // otherwise only some were selected with -run
		all.checkSelectors(t)
	}
}

// record causes the fault and checks the alerts and the runbook.
func (f fault) record(t *testing.T, pages map[string][]string) *recording {
	const before = 6
	s, r := f.scene(t), newRecording()
	step, during := f.step, f.during
	if step == 0 {
		step = time.Minute
	}
	if during == 0 {
		during = 26
	}
	for range before {
		s.load()
		r.scrape(t, s.Server)
	}
	s.fail()
	for range during {
		s.load()
		r.scrape(t, s.Server)
	}
	r.alerted(t, before, step, f.alerts)
	for title, says := range f.sections {
		s.play(t, title, pages[title], says)
	}
	if s.mended != nil {
		s.mended()
	}
	return r
}

// seen holds the series of all recordings.
type seen struct {
	mu         sync.Mutex
	recordings int
	series     map[string]bool
}

func (s *seen) add(r *recording) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordings++
	for id := range r.series {
		s.series[id] = true
	}
}

var (
	selector = regexp.MustCompile(`((?:extauthz_[a-z_]+|up))\{([^{}]*)\}`)
	matcher  = regexp.MustCompile(`([a-z]+)(=~|!=|=)"([^"]*)"`)
)

// checkSelectors fails unless each selector of the alerts and the Grafana dashboard, with its labels,
// matches a series of a running server.
func (s *seen) checkSelectors(t *testing.T) {
	text := deployed(t, "prometheus/alerts.yaml") + strings.ReplaceAll(deployed(t, "grafana/extauthz.json"), `\"`, `"`)
	found := selector.FindAllStringSubmatch(text, -1)
	if len(found) < 40 {
		t.Fatalf("%d selectors", len(found))
	}
	for _, m := range found {
		ok := false
		for id := range s.series {
			ok = ok || strings.HasPrefix(id, m[1]+"{") && selects(id, m[2])
		}
		if !ok {
			t.Errorf("%s: no server has such a series", m[0])
		}
	}
}

// selects reports whether a series has the labels that a selector asks for.
func selects(id, matchers string) bool {
	for _, m := range matcher.FindAllStringSubmatch(matchers, -1) {
		value := regexp.QuoteMeta(m[3])
		switch {
		case strings.HasPrefix(m[3], "$") || m[2] == "!=": // a variable of the dashboard
			value = `[^"]*`
		case m[2] == "=~":
			value = "(" + m[3] + ")"
		}
		if !regexp.MustCompile(`[{,]` + m[1] + `="` + value + `"`).MatchString(id) {
			return false
		}
	}
	return true
}

func deployed(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "deploy", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startScene starts a server whose decision log has every decision, unless the configuration has its own
// `store` or `decision_log`.
func startScene(t *testing.T, settings harness.Settings) *scene {
	t.Helper()
	settings.Config += "\nshutdown: {drain: 0s}\n"
	if !strings.Contains(settings.Config, "decision_log:") {
		settings.Config += "decision_log: {path: decisions.log, allowed: 1}\n"
	}
	s := &scene{Server: harness.StartExtauthz(t, settings), key: "key_listed", address: "127.0.0.1", fail: func() {}, load: func() {}}
	return s
}

// through starts an Envoy in front of the scene's server. The load is one request with each secret.
func (s *scene) through(t *testing.T, g gateway, secrets ...string) (front string) {
	t.Helper()
	g.Servers, g.Upstream = []string{s.Addr}, harness.StartUpstream(t).Addr
	front = g.start(t).Addr("front")
	s.load = func() {
		for _, secret := range secrets {
			send(t, front, call{header: headers("X-Api-Key", secret)})
		}
	}
	return front
}

// edit replaces the configuration file by a rename.
func (s *scene) edit(t *testing.T, change func(string) string) {
	t.Helper()
	path := filepath.Join(s.Dir, "extauthz.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path+".new", change(string(text)))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// has reports whether the metrics contain this line.
func (s *scene) has(line string, args ...any) bool {
	text, err := metricsOf(s.Server)
	return err == nil && strings.Contains(text, "\n"+fmt.Sprintf(line, args...)+"\n")
}
