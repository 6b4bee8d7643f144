package browser_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"extauthz/e2e/harness"
	"extauthz/keystore"
	"extauthz/keystore/postgres"
	"extauthz/keystore/postgres/pgtest"
	"extauthz/polltest"
	"extauthz/proctest"
	"extauthz/redisclient/redistest"
)

// A house is a running extauthz with its dashboard, behind a real Envoy.
type house struct {
	t             *testing.T
	file          string // the configuration
	front         string // Envoy's listener
	site, link    string // of the dashboard
	envoyUpstream *harness.Upstream
}

// stores returns the store field of a configuration, by kind.
func stores(t *testing.T) map[string]string {
	t.Helper()
	pg, rd := pgtest.Start(t), redistest.Start(t)
	if _, err := postgres.Migrate(t.Context(), pg.DSN()); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"yaml":     `{yaml: {path: keys.yaml}}`,
		"postgres": `{postgres: {dsn: "` + pg.DSN() + `"}}`,
		"redis":    `{redis: {url: "` + rd.URL() + `"}}`,
	}
}

func newHouse(t *testing.T, store string) *house {
	t.Helper()
	server := harness.StartExtauthz(t, harness.Settings{
		Config: "store: " + store + "\nshutdown: {drain: 0s}\ncache: {lookup_timeout: 2s}\nusage: {record: true, flush: 200ms, path: usage.db}",
	})
	h := &house{t: t, file: filepath.Join(server.Dir, "extauthz.yaml"), envoyUpstream: harness.StartUpstream(t)}
	text, err := os.ReadFile(filepath.Join(harness.Root(t), "examples", "quickstart", "envoy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	envoy := strings.NewReplacer(
		"port_value: 10000", "port_value: 0",
		addressIn(t, string(text), "9191"), harness.EnvoyAddress(t, server.Addr),
		addressIn(t, string(text), "8080"), harness.EnvoyAddress(t, h.envoyUpstream.Addr),
	).Replace(string(text))
	h.front = harness.StartEnvoy(t, envoy).Addr(listenerName(t, envoy))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), harness.Extauthz(t), "dashboard", "--config", h.file, "--listen", "127.0.0.1:0")
	link := regexp.MustCompile(`(http://\S+)(/login\?token=\S+)`)
	p := proctest.Start(t, "dashboard", cmd, nil)
	polltest.Until(t, "the dashboard prints its link", func() bool {
		m := link.FindStringSubmatch(p.Log())
		if m != nil {
			h.site, h.link = m[1], m[2]
		}
		return m != nil
	})
	return h
}

// addressIn returns the socket address with this port, as it is written in the example.
func addressIn(t *testing.T, text, port string) string {
	t.Helper()
	m := regexp.MustCompile(`\{socket_address: \{address: [^,]+, port_value: ` + port + `\}\}|socket_address: \{address: [^,]+, port_value: ` + port + `\}`).FindString(text)
	if m == "" {
		t.Fatalf("the example's envoy.yaml names no address with port %s", port)
	}
	return m
}

func listenerName(t *testing.T, text string) string {
	t.Helper()
	m := regexp.MustCompile(`listeners:\n\s*- name: (\S+)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatal("the example's listener has no name")
	}
	return m[1]
}

// add adds a key and returns its secret.
func (h *house) add(args ...string) string {
	h.t.Helper()
	cmd := exec.CommandContext(h.t.Context(), harness.Extauthz(h.t), append([]string{"key", "new", "--config", h.file}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatalf("key new: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// status sends a request through Envoy from an address of the loopback network.
func (h *house) status(secret, from string) int {
	h.t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://"+h.front+"/", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("x-api-key", secret)
	resp, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// becomes waits until a request gets the status.
func (h *house) becomes(secret, from string, status int) {
	h.t.Helper()
	polltest.NoError(h.t, func() error {
		if got := h.status(secret, from); got != status {
			return fmt.Errorf("from %s: %d, want %d", from, got, status)
		}
		return nil
	})
}

func (p *page) logIn(link string) {
	p.t.Helper()
	p.open(link)
	p.follow(`//button[text()="Log in"]`)
	p.wants("Keys")
}

// TestStories performs the tasks of an owner and of a person on call, over each kind of store.
func TestStories(t *testing.T) {
	browser := newBrowser(t)
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			h := newHouse(t, store)
			secret := h.add("--id", "key_acme", "--name", "Acme, production", "--allow", "192.0.2.7")
			h.becomes(secret, "127.0.0.1", http.StatusForbidden)

			p := newPage(t, browser, h.site, 1280, false)
			p.logIn(h.link)

			// Find the key, add a range with a mistake in it, correct it, and save.
			p.fill("#q", "acme")
			p.follow(`//button[text()="Search"]`)
			p.follow(`//a[text()="key_acme"]`)
			p.wants("It works from the addresses on its whitelist")
			p.fill("#entries", "127.0.0.1/8\n192.0.2.0/24")
			p.follow(`//button[text()="Add"]`)
			p.wants("Nothing was changed", "did you mean 127.0.0.0/8")
			p.fill("#entries", "127.0.0.1\n192.0.2.0/24")
			p.follow(`//button[text()="Add"]`)
			p.wants("The addresses were added.")
			h.becomes(secret, "127.0.0.1", http.StatusOK)

			// Remove it again: the page asks for confirmation, because requests came from there.
			polltest.Until(t, "the use is recorded", func() bool {
				p.open("/keys/key_acme")
				return strings.Contains(p.text(), "last used")
			})
			p.follow(`//li[.//code="127.0.0.1"]//button`)
			p.wants("Please confirm", "127.0.0.1")
			p.follow(`//button[text()="Change it all the same"]`)
			p.wants("The entry was removed.")
			h.becomes(secret, "127.0.0.1", http.StatusForbidden)

			// On call: find who is refused now, and allow them.
			polltest.Until(t, "the refusal is shown", func() bool {
				p.open("/refusals")
				return strings.Contains(p.text(), "127.0.0.1")
			})
			p.follow(`//tr[contains(., "127.0.0.1")]//button`)
			p.wants("Please confirm", "Shall the key work from 127.0.0.1 too?")
			p.follow(`//button[text()="Yes"]`)
			p.wants("The addresses were added.")
			h.becomes(secret, "127.0.0.1", http.StatusOK)

			// Explain why another address would be refused.
			p.open("/check?key=key_acme")
			p.fill("#peer", "198.51.100.9")
			p.follow(`//button[text()="Check"]`)
			p.wants("FORBIDDEN: refused", "198.51.100.9 is in none of")

			// A new key, shown once.
			p.open("/new")
			p.fill("#id", "key_made")
			p.fill("#entries", "127.0.0.2")
			p.follow(`//button[text()="Add the key"]`)
			p.wants("key_made was added", "It is shown once")
			made := value(p, chromedp.Text(chromedp.CSS("#secret")))
			if keystore.Secret(made).Hash() == keystore.Secret("").Hash() {
				t.Fatal("no secret is shown")
			}
			h.becomes(made, "127.0.0.2", http.StatusOK)
			if got := h.status(made, "127.0.0.1"); got != http.StatusForbidden {
				t.Errorf("the new key from another address: %d", got)
			}
			p.follow(`//a[text()="Go on to the key"]`)
			if strings.Contains(p.text(), made) {
				t.Error("the secret is shown twice")
			}
			p.follow(`//button[text()="Disable"]`)
			if strings.Contains(p.text(), "Please confirm") {
				p.follow(`//button[text()="Change it all the same"]`)
			}
			p.wants("every request is refused as DISABLED")
			h.becomes(made, "127.0.0.2", http.StatusUnauthorized)
			p.open("/state")
			p.wants("answers", "enforced")
		})
	}
}

// TestPictures shows each page, narrow and wide, light and dark; with EXTAUTHZ_SCREENSHOTS it keeps
// pictures of them.
func TestPictures(t *testing.T) {
	browser := newBrowser(t)
	h := newHouse(t, `{yaml: {path: keys.yaml}}`)
	secret := h.add("--id", "key_acme_prod", "--name", "Acme, production", "--allow", "127.0.0.0/29", "--allow", "2001:db8:85a3::/48", "--external-id", "acme")
	h.add("--id", "key_globex", "--name", "Globex", "--allow", "198.51.100.0/24", "--expires", "20d", "--external-id", "globex")
	h.add("--id", "key_open", "--name", "A key without a whitelist")
	h.add("--id", "key_initech.reporting-service.production.eu-central-1", "--name", "A long name for the nightly export of the reporting service", "--external-id", "initech",
		"--allow", "2001:db8:85a3:8d3:1319:8a2e:370:7344", "--allow", "2001:db8:85a3:8d3:1319:8a2e:370:7000/116", "--allow", "203.0.113.128/25", "--allow", "198.51.100.17")
	h.becomes(secret, "127.0.0.1", http.StatusOK)
	for i := range 60 {
		h.status(secret, fmt.Sprintf("127.0.0.%d", 1+i%4))
	}
	h.status(secret, "127.0.0.77")
	logIn := newPage(t, browser, h.site, 1280, false)
	logIn.open(h.link)
	logIn.picture("login-1280-light")
	logIn.logIn(h.link)
	polltest.Until(t, "the use is recorded", func() bool {
		logIn.open("/keys/key_acme_prod")
		return strings.Contains(logIn.text(), "127.0.0.77")
	})
	for _, width := range []int64{390, 1280} {
		for _, dark := range []bool{false, true} {
			scheme := map[bool]string{false: "light", true: "dark"}[dark]
			p := newPage(t, browser, h.site, width, dark)
			for name, path := range map[string]string{
				"keys": "/", "key": "/keys/key_acme_prod", "refusals": "/refusals", "new": "/new", "state": "/state",
				"check": "/check?key=key_acme_prod&peer=127.0.0.77",
			} {
				p.open(path)
				p.picture(fmt.Sprintf("%s-%d-%s", name, width, scheme))
			}
			p.open("/keys/key_acme_prod")
			p.fill("#entries", "10.1.2.3/8\n2001:db8:85a3:8d3:1319:8a2e:370:7344\nexample.com\n10.1.*")
			p.follow(`//button[text()="Add"]`)
			p.picture(fmt.Sprintf("mistakes-%d-%s", width, scheme))
			p.fill("#entries", "127.0.0.1\n127.0.0.2")
			p.follow(`//button[text()="Evaluate as the whole whitelist"]`)
			p.picture(fmt.Sprintf("evaluation-%d-%s", width, scheme))
			p.follow(`//button[text()="Replace the whitelist with these"]`)
			p.wants("Please confirm")
			p.picture(fmt.Sprintf("confirm-%d-%s", width, scheme))
		}
	}
	narrow := newPage(t, browser, h.site, 360, false)
	for _, path := range []string{
		"/", "/keys/key_acme_prod", "/keys/key_initech.reporting-service.production.eu-central-1", "/refusals", "/check", "/state", "/new", "/login",
		"/keys/none", "/?q=2001:db8:85a3:8d3:1319:8a2e:370:7344", "/?q=none", "/check?key=key_initech.reporting-service.production.eu-central-1&peer=2001:db8:85a3:8d3:1319:8a2e:370:7343",
	} {
		narrow.open(path)
	}
}
