package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

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

// page returns a page, or what a form leads to.
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

// TestDashboard changes keys in every kind of store on the page, and asks a server about them.
func TestDashboard(t *testing.T) {
	t.Parallel()
	for kind, store := range stores(t) {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "extauthz.yaml")
			write(t, file, "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\nshutdown: {drain: 0s}\nstore: "+store+
				"\nusage: {record: true, flush: 100ms, path: usage.db}\n")
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
			if body := page(t, client, site+"/check?key=key_acme&peer=198.51.100.1", nil); !strings.Contains(body, "FORBIDDEN: refused") || !strings.Contains(body, "198.51.100.1") {
				t.Errorf("the check is not explained:\n%s", body)
			}
			if body := page(t, client, site+"/", nil); !strings.Contains(body, "key_first") || !strings.Contains(body, "key_acme") {
				t.Errorf("the list lacks keys:\n%s", body)
			}
			polltest.Until(t, "the server is shown", func() bool {
				return strings.Contains(page(t, client, site+"/state", nil), "live at once")
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
