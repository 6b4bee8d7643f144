package examples_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"extauthz/e2e/harness"
	"extauthz/keystore"
)

// The blocks of the top-level README are pasted one after another into one shell.
func TestTopREADME(t *testing.T) {
	t.Parallel()
	readme := filepath.Join(harness.Root(t), "README.md")
	tr := newTree(t, ownPorts(t), "quickstart")
	shown := tr.runREADME(t, readme) // without -e: check exits with 1 if it refuses
	_, after, _ := strings.Cut(readFile(t, readme), "```sh\nextauthz check ")
	_, after, _ = strings.Cut(after, "```\n```\n")
	if explained, _, ok := strings.Cut(after, "```\n"); !ok || !strings.Contains(shown, explained) {
		t.Errorf("extauthz check does not show what the README says:\n%s", explained)
	}
}

// yamlBlocks returns the ```yaml blocks of the top-level README and of docs/envoy.md.
func yamlBlocks(t *testing.T) (blocks []string) {
	t.Helper()
	for _, name := range []string{"README.md", "docs/envoy.md"} {
		text := readFile(t, filepath.Join(harness.Root(t), name))
		for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
			blocks = append(blocks, m[1])
		}
	}
	return blocks
}

// yamlBlock returns the one ```yaml block that begins with a line.
func yamlBlock(t *testing.T, first string) string {
	t.Helper()
	for _, block := range yamlBlocks(t) {
		if strings.HasPrefix(block, first+"\n") {
			return block
		}
	}
	t.Fatalf("no page has a block that begins with %s", first)
	return ""
}

func indent(text string, by int) string {
	return strings.ReplaceAll("\n"+strings.TrimSpace(text), "\n", "\n"+strings.Repeat(" ", by))
}

// existingEnvoy is a typical configuration of Envoy, with places for the README's blocks: a CORS policy,
// filters and a cluster.
const existingEnvoy = `static_resources:
  listeners:
    - name: front
      address: {socket_address: {address: 127.0.0.1, port_value: 0}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: front
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]%s
                      routes: [{match: {prefix: /}, route: {cluster: upstream}}]
                http_filters:
                  - name: envoy.filters.http.cors
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}%s
                  - name: envoy.filters.http.router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
    - {name: upstream, load_assignment: {cluster_name: upstream, endpoints: [{lb_endpoints: [{endpoint: {address: %s}}]}]}}%s
`

// startREADMEBlocks starts an Envoy with the README's blocks in it, in front of an upstream.
func startREADMEBlocks(t *testing.T, keys string) (envoy string) {
	t.Helper()
	server := harness.StartExtauthz(t, harness.Settings{Keys: keys})
	_, port, _ := strings.Cut(server.Addr, ":")
	cluster := strings.ReplaceAll(yamlBlock(t, "- name: extauthz"), "9191", port)
	config := fmt.Sprintf(existingEnvoy, indent(yamlBlock(t, "typed_per_filter_config:"), 22), indent(yamlBlock(t, "- name: envoy.filters.http.ext_authz"), 18),
		harness.EnvoyAddress(t, harness.StartUpstream(t).Addr), indent(cluster, 4))
	return harness.StartEnvoy(t, config).Addr("front")
}

func TestTopREADMEFilter(t *testing.T) {
	t.Parallel()
	envoy := startREADMEBlocks(t, "keys: [{id: key_here, hash: "+keystore.Secret("demo").Hash().String()+", ip_whitelist: [127.0.0.1]}]")
	for _, c := range []struct {
		from   string
		header http.Header
		status int
		word   string
	}{
		{"127.0.0.1", http.Header{"X-Api-Key": {"demo"}}, 200, "key_here"},
		{"127.0.0.2", http.Header{"X-Api-Key": {"demo"}, "X-Forwarded-For": {"127.0.0.1"}}, 403, "FORBIDDEN"},
		{"127.0.0.1", nil, 401, "MISSING_KEY"},
	} {
		status, body := get(t, envoy, "/", c.from, c.header)
		if status != c.status || !strings.Contains(body, c.word) || status == 200 && strings.Contains(body, "x-api-key") {
			t.Errorf("from %s with %v: got %d %s, want %d %s", c.from, c.header, status, body, c.status, c.word)
		}
	}
}

// A page can read a refusal, and the headers about when to retry.
func TestTopREADMEBrowsers(t *testing.T) {
	t.Parallel()
	envoy := startREADMEBlocks(t, "keys: [{id: key_here, hash: "+keystore.Secret("demo").Hash().String()+", ratelimits: [{name: requests, limit: 1, duration: 1h}]}]")
	ask := func(method string, header http.Header) *http.Response {
		t.Helper()
		header.Set("Origin", "https://app.example.com")
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+envoy+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = header
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response
	}
	preflight := ask(http.MethodOptions, http.Header{"Access-Control-Request-Method": {"GET"}, "Access-Control-Request-Headers": {"x-api-key"}})
	if preflight.StatusCode != 200 || preflight.Header.Get("Access-Control-Allow-Headers") != "x-api-key" {
		t.Errorf("the preflight got %d %v", preflight.StatusCode, preflight.Header)
	}
	for _, status := range []int{200, 429} {
		response := ask(http.MethodGet, http.Header{"X-Api-Key": {"demo"}})
		exposed := response.Header.Get("Access-Control-Expose-Headers")
		if response.StatusCode != status || response.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
			t.Errorf("got %d %v, want %d", response.StatusCode, response.Header, status)
		}
		for name := range response.Header {
			if name = strings.ToLower(name); (strings.HasPrefix(name, "x-ratelimit-") || name == "retry-after") && !strings.Contains(exposed, name) {
				t.Errorf("%s is not exposed: %s", name, exposed)
			}
		}
		if response.Header.Get("X-Ratelimit-Limit") == "" || status == 429 && response.Header.Get("Retry-After") == "" {
			t.Errorf("%d without the headers of the limit: %v", status, response.Header)
		}
	}
}

// The README's configuration is valid.
func TestTopREADMEConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tr := &tree{dir: dir}
	var config string
	for _, first := range []string{"listen: ", "roles: "} {
		for _, block := range yamlBlocks(t) {
			if strings.HasPrefix(block, first) {
				config += block
			}
		}
	}
	if strings.Count(config, "\n") < 10 {
		t.Fatalf("the README's configuration:\n%s", config)
	}
	tr.write(t, "extauthz.yaml", config, 0o644)
	tr.write(t, "keys.yaml", "keys: []\n", 0o644)
	run(t, harness.Extauthz(t), "validate", "--config", filepath.Join(dir, "extauthz.yaml"))
}
