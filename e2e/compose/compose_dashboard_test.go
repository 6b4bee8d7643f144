package compose_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"extauthz/dashboard/oidctest"
	"extauthz/e2e/harness"
	"extauthz/polltest"
	"extauthz/proctest"
)

// In its profile, the dashboard runs with the example's services and the provider for its login. Their
// files agree with the published ports.
func TestComposeDashboard(t *testing.T) {
	services := loadProfile(t, "dashboard")
	envoy, page, dex := services["envoy-postgres"], services["dashboard"], services["dex"]
	for _, name := range []string{"postgres", "migrate-postgres", "import-postgres", "extauthz-postgres-1", "upstream-postgres", "dashboard", "dex"} {
		if services[name].NetworkMode != "service:envoy-postgres" {
			t.Errorf("%s does not share Envoy's network: %q", name, services[name].NetworkMode)
		}
	}
	if page.Command[0] != "dashboard" || !regexp.MustCompile(`^ghcr\.io/dexidp/dex:v[0-9.]+$`).MatchString(dex.Image) {
		t.Errorf("the dashboard runs %q, and Dex is %s", page.Command, dex.Image)
	}
	file := argument(t, inPlace(t, page, page.Command), "--config")
	run(t, harness.Extauthz(t), "validate", "--config", file)

	var ours struct {
		Dashboard struct {
			Listen, URL string
			OIDC        struct {
				Issuer       string
				ClientID     string `yaml:"client_id"`
				ClientSecret string `yaml:"client_secret"`
				Editors      []string
			}
		}
	}
	var theirs struct {
		Issuer        string
		Web           struct{ HTTP string }
		StaticClients []struct {
			ID, Secret   string
			RedirectURIs []string `yaml:"redirectURIs"`
		} `yaml:"staticClients"`
		StaticPasswords []struct{ Email string } `yaml:"staticPasswords"`
	}
	decode(t, file, &ours)
	decode(t, hostPath(t, dex, dex.Command[len(dex.Command)-1]), &theirs)
	client, d := theirs.StaticClients[0], ours.Dashboard
	if d.OIDC.Issuer != theirs.Issuer || d.OIDC.ClientID != client.ID || d.OIDC.ClientSecret != client.Secret ||
		!slices.Equal(client.RedirectURIs, []string{d.URL + "/login/callback"}) || d.OIDC.Editors[0] != theirs.StaticPasswords[0].Email {
		t.Errorf("the dashboard has %+v, and Dex %+v", d, theirs)
	}
	for _, listen := range []string{d.Listen, theirs.Web.HTTP} {
		_, port, _ := net.SplitHostPort(listen)
		published := false
		for _, p := range envoy.Ports {
			published = published || p.Published == port && fmt.Sprint(p.Target) == port
		}
		if !published || !strings.Contains(d.URL+theirs.Issuer, "127.0.0.1:"+port) {
			t.Errorf("%s is not a published port: %+v", listen, envoy.Ports)
		}
	}
}

// The dashboard with the profile's configuration lets the provider's user log in. The store, the provider
// and the ports are the test's.
func TestComposeDashboardRuns(t *testing.T) {
	text := readFile(t, filepath.Join(harness.Root(t), "examples/postgres/dashboard.yaml"))
	provider := oidctest.Start(t)
	provider.Claims = map[string]any{"email": "admin@example.com", "email_verified": true}
	dir := t.TempDir()
	_, port, err := net.SplitHostPort(harness.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^store: .*$`).ReplaceAllString(text, "store: {yaml: {path: keys.yaml}}")
	text = strings.NewReplacer("http://127.0.0.1:5556/dex", provider.URL, "9195", port, "demo_client", "secret", "record: true", "record: true, path: usage.db").Replace(text)
	file := filepath.Join(dir, "dashboard.yaml")
	write(t, file, text)
	write(t, filepath.Join(dir, "keys.yaml"), readFile(t, filepath.Join(harness.Root(t), "examples/postgres/keys.yaml")))

	proctest.Start(t, "dashboard", exec.CommandContext(t.Context(), harness.Extauthz(t), "dashboard", "--config", file), nil)
	site := "http://127.0.0.1:" + port
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	polltest.NoError(t, func() error {
		resp, err := browser.Get(site + "/login")
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	resp, err := browser.PostForm(site+"/login", nil)
	if body := body(t, resp, err); !strings.Contains(body, "Logged in") {
		t.Fatalf("the login ends at %s:\n%s", resp.Request.URL, body)
	}
	resp, err = browser.Get(site + "/")
	if body := body(t, resp, err); !strings.Contains(body, "key_acme") || !strings.Contains(body, "admin@example.com") || !strings.Contains(body, "New key") {
		t.Errorf("the editor sees\n%s", body)
	}
}

func decode(t *testing.T, file string, to any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, file)), to); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func body(t *testing.T, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
