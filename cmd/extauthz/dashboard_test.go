package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"extauthz/config"
	"extauthz/keystore"
	"extauthz/polltest"
)

// startDashboard starts the dashboard and returns its address and a browser that is logged in.
func startDashboard(t *testing.T, args ...string) (string, *http.Client) {
	t.Helper()
	p := start(t, append([]string{"dashboard", "--listen", "127.0.0.1:0"}, args...)...)
	link := regexp.MustCompile(`(http://\S+)/login\?token=(\S+)`)
	var m []string
	polltest.Until(t, "the link is printed", func() bool {
		m = link.FindStringSubmatch(p.Log())
		return m != nil
	})
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	page(t, client, m[1]+"/login", url.Values{"token": {m[2]}})
	return m[1], client
}

// page returns a page, or the page after a form.
func page(t *testing.T, client *http.Client, address string, form url.Values) string {
	t.Helper()
	resp, err := client.Get(address)
	if form != nil {
		resp, err = client.PostForm(address, form)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		t.Fatalf("%s: %s\n%s", address, resp.Status, body)
	}
	return string(body)
}

// TestDashboard changes keys in every kind of store on the page, and checks the decisions of a server.
func TestDashboard(t *testing.T) {
	t.Parallel()
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "extauthz.yaml")
			write(t, file, "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\nshutdown: {drain: 0s}\ncache: {lookup_timeout: 2s}\nstore: "+store+
				"\nusage: {record: true, flush: 100ms, path: usage.db}\naudit: {path: audit.log}\n")
			command(t, "", "key", "new", "--config", file, "--id", "key_first", "--allow", "10.0.0.0/8")
			server := serving(t, start(t, "serve", "--config", file))
			site, client := startDashboard(t, "--config", file)

			body := page(t, client, site+"/new", url.Values{"id": {"key_acme"}, "entries": {"10.0.0.0/24\n2001:db8::/32"}})
			m := regexp.MustCompile(`<code id="secret">(\S+)</code>`).FindStringSubmatch(body)
			if m == nil {
				t.Fatalf("no secret on\n%s", body)
			}
			polltest.Until(t, "the new key works", func() bool { return decision(t, server, m[1], "10.0.0.1") == "VALID" })
			if got := decision(t, server, m[1], "203.0.113.7"); got != "FORBIDDEN" {
				t.Fatalf("from another address: %s", got)
			}
			polltest.Until(t, "the refusal is shown", func() bool {
				return strings.Contains(page(t, client, site+"/refusals", nil), "203.0.113.7")
			})
			version := regexp.MustCompile(`name="version" value="([0-9a-f]+)"`).FindStringSubmatch(page(t, client, site+"/refusals", nil))
			page(t, client, site+"/keys/key_acme/allow", url.Values{"entries": {"203.0.113.7"}, "version": {version[1]}})
			polltest.Until(t, "the address is let in", func() bool { return decision(t, server, m[1], "203.0.113.7") == "VALID" })
			if body := page(t, client, site+"/keys/key_acme", nil); !strings.Contains(body, "<code>203.0.113.7</code>") {
				t.Errorf("the key's page lacks the address:\n%s", body)
			}
			if body := page(t, client, site+"/keys/key_acme", nil); !strings.Contains(body, "ip_whitelist: added 203.0.113.7") || strings.Count(body, `data-label="Who">`+actor()) != 2 {
				t.Errorf("the key's page lacks who changed what:\n%s", body)
			}
			if history := command(t, "", "key", "history", "key_acme", "--config", file); !regexp.MustCompile(regexp.QuoteMeta(actor()) + `.* change +ip_whitelist: added 203.0.113.7\n`).MatchString(history) {
				t.Errorf("history:\n%s", history)
			}
			logged := readFile(t, filepath.Join(filepath.Dir(file), "audit.log"))
			if strings.Count(logged, "\n") != 3 || strings.Count(logged, `"actor":"`+actor()+`","keyId":"key_acme"`) != 2 {
				t.Errorf("logged:\n%s", logged)
			}
			if body := page(t, client, site+"/check?key=key_acme&peer=198.51.100.1", nil); !strings.Contains(body, "FORBIDDEN: refused") || !strings.Contains(body, "198.51.100.1") {
				t.Errorf("the check is not explained:\n%s", body)
			}
			if body := page(t, client, site+"/", nil); !strings.Contains(body, "key_first") || !strings.Contains(body, "key_acme") {
				t.Errorf("the list lacks keys:\n%s", body)
			}
			polltest.Until(t, "the server is shown", func() bool {
				return strings.Contains(page(t, client, site+"/state", nil), ">at once<")
			})
		})
	}
}

func TestDashboardRefusesToListenForEveryone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, file, keyFile(secretOne))
	p := start(t, "dashboard", "--keys", file, "--listen", "0.0.0.0:0")
	if code := p.Wait(); code != 1 || !strings.Contains(p.Log(), "write login: oidc") {
		t.Errorf("exit code %d\n%s", code, p.Log())
	}
}

// TestCurl: the command sends the secret in the first key source.
func TestCurl(t *testing.T) {
	for source, want := range map[string]string{
		"{header: x-api-key}":                                  "curl -i -H 'x-api-key: s' http://127.0.0.1:10000/",
		"{header: authorization, scheme: Bearer}":              "curl -i -H 'authorization: bearer s' http://127.0.0.1:10000/",
		"{header: authorization, scheme: Bearer, prefix: sk_}": "curl -i -H 'authorization: bearer s' http://127.0.0.1:10000/",
		"{query: api_key}":                                     "curl -i 'http://127.0.0.1:10000/?api_key=s'",
		"{cookie: session}":                                    "curl -i -b 'session=s' http://127.0.0.1:10000/",
	} {
		file := filepath.Join(t.TempDir(), "extauthz.yaml")
		write(t, file, "store: {yaml: {path: keys.yaml}}\nkey_sources: ["+source+"]\n")
		cfg, err := config.Load(file, config.Overrides{})
		if err != nil {
			t.Fatal(err)
		}
		if got := curlWith(cfg, "s"); got != want {
			t.Errorf("%s: %s, want %s", source, got, want)
		}
	}
}

// TestDashboardFilters uses each filter and search, in every kind of store.
func TestDashboardFilters(t *testing.T) {
	in := func(days int) string { return time.Now().AddDate(0, 0, days).UTC().Format(time.RFC3339) }
	record := func(n int, id, more string) string {
		return fmt.Sprintf("  - {id: %s, hash: %064x, %s}\n", id, n+1, more)
	}
	keys := "keys:\n" +
		record(1, "key_disabled", `enabled: false, ip_whitelist: [10.0.0.0/8], name: "Acme, old"`) +
		record(2, "key_expired", "expires: "+in(-1)+", ip_whitelist: [10.1.0.0/16]") +
		record(3, "key_expiring", "expires: "+in(10)+", ip_whitelist: [192.0.2.7], external_id: acme") +
		record(4, "key_later", "expires: "+in(60)+`, ip_whitelist: ["2001:db8::/32"]`) +
		record(5, "key_open", "external_id: globex") +
		record(6, "key_report", "ip_whitelist: [192.0.2.7], ip_whitelist_mode: report") +
		fmt.Sprintf("  - {id: key_used, hash: %s, ip_whitelist: [10.0.0.1]}\n", keystore.Secret("used").Hash())
	wanted := map[string]string{
		"":                               "key_disabled key_expired key_expiring key_later key_open key_report key_used",
		"filter=disabled":                "key_disabled",
		"filter=expired":                 "key_expired",
		"filter=expiring":                "key_expiring",
		"filter=unrestricted":            "key_open",
		"filter=report":                  "key_report",
		"filter=unused":                  "key_disabled key_expired key_expiring key_later key_open key_report",
		"filter=unused&q=acme":           "key_disabled key_expiring",
		"filter=expiring&q=globex":       "",
		"q=ACME":                         "key_disabled key_expiring",
		"q=key_exp":                      "key_expired key_expiring",
		"q=10.1.2.3":                     "key_disabled key_expired",
		"q=192.0.2.7":                    "key_expiring key_report",
		"q=192.0.2.7&filter=report":      "key_report",
		"q=2001:db8::1":                  "key_later",
		"q=203.0.113.7":                  "",
		"after=key_open":                 "key_report key_used",
		"after=key_open&filter=disabled": "",
	}
	links := regexp.MustCompile(`<td class="first"><a href="/keys/([^"]+)">`)
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			file, from := filepath.Join(dir, "extauthz.yaml"), filepath.Join(dir, "from.yaml")
			write(t, file, "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\nshutdown: {drain: 0s}\ncache: {lookup_timeout: 2s}\nstore: "+store+
				"\nusage: {record: true, flush: 100ms, path: usage.db}\n")
			write(t, from, keys)
			command(t, "", "key", "import", "--config", file, "--from", from)
			server := serving(t, start(t, "serve", "--config", file))
			site, client := startDashboard(t, "--config", file)
			polltest.Until(t, "the use is recorded", func() bool {
				decision(t, server, "used", "10.0.0.1")
				return !strings.Contains(page(t, client, site+"/?filter=unused", nil), "key_used")
			})
			for query, want := range wanted {
				var found []string
				for _, m := range links.FindAllStringSubmatch(page(t, client, site+"/?"+query, nil), -1) {
					found = append(found, m[1])
				}
				if got := strings.Join(found, " "); got != want {
					t.Errorf("%q finds %q, want %q", query, got, want)
				}
			}
			state := page(t, client, site+"/state", nil)
			for _, row := range []string{"enforced</td><td>3", "report</a></td><td>1", "anywhere</a></td><td>1", "disabled</a></td><td>1", "expired</a></td><td>1", "broken</td><td>0"} {
				if !strings.Contains(state, row) {
					t.Errorf("the state lacks %q:\n%s", row, state)
				}
			}
		})
	}
}
