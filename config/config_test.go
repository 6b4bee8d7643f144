package config

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/keystore"
	"extauthz/permission"
	"extauthz/ratelimit"
	"extauthz/route"
	"extauthz/strictyaml"
)

var update = flag.Bool("update", false, "write the errors and warnings into the test files")

// variable is the value of the variables in the test files. No field accepts it, and no error may contain
// it.
const variable = "hunter2 hunter2/8"

// Each file in testdata/bad and testdata/warned contains one mistake, followed by comments with all errors
// and warnings about it.
func TestMistakes(t *testing.T) {
	t.Setenv("EXTAUTHZ_TEST_SECRET", variable)
	for _, dir := range []string{"bad", "warned"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in testdata/%s: %v", dir, err)
		}
		for _, file := range files {
			t.Run(dir+"/"+strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
				cfg, err := Load(file, Overrides{})
				if (err != nil) != (dir == "bad") {
					t.Errorf("error: %v", err)
				}
				got := said(t, file, cfg, err)
				if strings.Contains(got, "hunter2") {
					t.Errorf("what a variable stands for is shown:\n%s", got)
				}
				data, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				text, want := splitComments(string(data))
				if *update {
					if err := os.WriteFile(file, []byte(text+got), 0o644); err != nil {
						t.Fatal(err)
					}
				} else if got != want {
					t.Errorf("got:\n%s\nwant:\n%s", got, want)
				}
			})
		}
	}
}

// said returns the errors and warnings about a file in the form of those comments.
func said(t *testing.T, file string, cfg *Config, err error) string {
	t.Helper()
	var found strictyaml.Errors
	if err != nil && !errors.As(err, &found) {
		t.Fatalf("the error is a %T: %v", err, err)
	}
	var b strings.Builder
	for _, e := range found {
		fmt.Fprintf(&b, "# error: %s\n", strings.TrimPrefix(e.Error(), file+":"))
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintf(&b, "# warning: %s\n", strings.TrimPrefix(w.Error(), file+":"))
	}
	return b.String()
}

func splitComments(data string) (text, comments string) {
	if i := strings.Index(data, "# "); i >= 0 {
		return data[:i], data[i:]
	}
	return data, ""
}

func TestEveryField(t *testing.T) {
	t.Setenv("EXTAUTHZ_TEST_DIR", "/run")
	t.Setenv("EXTAUTHZ_TEST_HOPS", "2")
	got, err := Load("testdata/full.yaml", Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen: Address{"unix", "/run/extauthz.sock"},
		Socket: Socket{Mode: 0o640, Group: "envoy"},
		TLS: TLS{
			CertFile: "testdata/tls.crt", KeyFile: "/run/tls.key", ClientCAFile: "testdata/ca.crt",
			ClientNames: []string{"envoy", "spiffe://a/b"}, MinVersion: "1.2",
		},
		KeySources: []check.KeySource{check.Header("x-api-key"), check.WithPrefix(check.Scheme("authorization", "Bearer"), "sk_"), check.Query("api_key"), check.Cookie("api_key")},
		Admin:      Admin{Pprof: true},
		ForwardKey: true,
		ClientAddress: ClientAddress{
			From: FromXForwardedFor, TrustedHops: 2, Ports: true,
		},
		Store: Store{YAML: &YAMLStore{Path: "testdata/keys/${literal}.yaml"}},
		Cache: Cache{
			Size: 5, TTL: 30 * time.Second, NegativeSize: 6,
			MaxInFlight: 7, LookupTimeout: 50 * time.Millisecond,
		},
		Roles: permission.Roles{"editor": {"documents.read", "documents.write"}, "nobody": {}},
		Paths: Paths{IgnoreCase: true},
		Routes: []route.Rule{
			{PathPrefix: "/Exact", Permissions: "a"},
			{Hosts: []string{"*.example.com"}, PathPrefix: "/admin", IgnoreCase: true, Methods: []string{"GET", "POST"}, Permissions: "admin OR root"},
			{PathPrefix: "/exports", IgnoreCase: true, Ratelimits: "exports=1"},
		},
		ExternalIDs: map[string]ExternalID{"acme": {Ratelimits: []keystore.Ratelimit{
			{Name: "requests", Limit: 1000, Duration: time.Minute},
			{Name: "exports", Limit: 5, Duration: time.Hour, OnDemand: true},
		}}},
		Ratelimit: Ratelimit{Store: LimitsInRedis, URL: "redis://redis/run", Prefix: "t:", Timeout: 20 * time.Millisecond, RefuseOnError: true, Headers: ratelimit.IETF},
		DryRun:    true,

		Tracing:     Tracing{Endpoint: "https://otlp.example.com/traces", Protocol: OTLPOverHTTP, Ratio: 0.25, Addresses: true},
		Metrics:     Metrics{Owners: 20},
		Audit:       Audit{Path: "testdata/audit.log"},
		DecisionLog: DecisionLog{Path: "testdata/decisions.log", Allowed: 0.5, Refused: 0.75, MaxSize: 2 << 30, Keep: 3, OnFull: OnFullRefuse},
		Statuses:    map[authz.Code]int{authz.Expired: 403, authz.Unavailable: 500},
		Log:         Log{Level: slog.LevelDebug, Format: "json", Decisions: LogAll},
		Shutdown:    Shutdown{Timeout: time.Minute},
		GRPC:        GRPC{MaxMessageSize: 8 << 20, MaxConnectionAge: 5 * time.Minute},
		Memory:      Memory{Limit: 512 << 20, GCPercent: 150},
		Usage:       Usage{Record: true, Retention: 48 * time.Hour, Flush: time.Second, AddressesPerKey: 8, Path: "testdata/usage.db"},
		Dashboard: Dashboard{
			Listen: Address{Network: "tcp", Address: "0.0.0.0:443"}, URL: "https://keys.example.com", Login: LoginByOIDC,
			TLS: DashboardTLS{CertFile: "testdata/dashboard.crt", KeyFile: "/etc/dashboard.key"},
			OIDC: OIDC{
				Issuer: "https://accounts.example.com", ClientID: "extauthz", ClientSecret: "s", Scopes: []string{"email"},
				Viewers: []string{"auditors"}, Editors: []string{"you@example.com"},
			},
		},
	}
	want.Warnings, want.Files = got.Warnings, got.Files // the warning is about dry_run; see TestRangeFiles
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	v, d := reflect.ValueOf(*got), reflect.ValueOf(*Default())
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; name != "Warnings" && name != "Files" && reflect.DeepEqual(v.Field(i).Interface(), d.Field(i).Interface()) {
			t.Errorf("the file leaves %s at its default, so that it is not tested", name)
		}
	}
}

func TestMinimal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "extauthz.yaml")
	if err := os.WriteFile(file, []byte("store: {yaml: {path: keys.yaml}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Store.YAML = &YAMLStore{Path: filepath.Join(filepath.Dir(file), "keys.yaml")}
	want.Files = []string{file}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestTrustedProxies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "extauthz.yaml")
	text := "client_address: {from: x_forwarded_for, trusted_proxies: [10.0.0.0/8, 192.0.2.7, \"::ffff:198.51.100.0/120\", \"2001:db8::/32\"]}\nstore: {yaml: {path: /keys.yaml}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file, Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Prefix
	for _, s := range []string{"10.0.0.0/8", "192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32"} {
		want = append(want, netip.MustParsePrefix(s))
	}
	if !reflect.DeepEqual(got.ClientAddress.TrustedProxies, want) {
		t.Errorf("trusted proxies are %v, want %v", got.ClientAddress.TrustedProxies, want)
	}
	if got.Store.YAML.Path != "/keys.yaml" {
		t.Errorf("an absolute path became %s", got.Store.YAML.Path)
	}
}

func TestOverrides(t *testing.T) {
	got, err := Load("", Overrides{Keys: "keys.yaml", Listen: "unix:/run/a.sock", Admin: "none"})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Store.YAML = &YAMLStore{Path: "keys.yaml"}
	want.Listen, want.Admin.Listen = Address{"unix", "/run/a.sock"}, Address{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	// A file without a store is valid with one from the command line.
	if _, err := Load("testdata/bad/store-missing.yaml", Overrides{Keys: "keys.yaml"}); err != nil {
		t.Error(err)
	}
	for _, o := range []Overrides{{}, {Keys: "k", Listen: "nowhere"}, {Keys: "k", Listen: "none"}, {Keys: "k", Admin: "nowhere"}} {
		if _, err := Load("", o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

func TestNoFile(t *testing.T) {
	_, err := Load("testdata/none.yaml", Overrides{})
	if want := "testdata/none.yaml: the configuration cannot be read: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAddress(t *testing.T) {
	for _, s := range []string{"127.0.0.1:9191", ":9191", "[::1]:0", "localhost:65535", "unix:/run/a.sock"} {
		a, err := ParseAddress(s)
		if err != nil || a.String() != s {
			t.Errorf("%s is read as %v, %v", s, a, err)
		}
	}
	for _, s := range []string{"", "9191", "a:b", "a:-1", "a:+1", "a:65536", "::1:9191", "unix:", "unix:a", "tcp://a:1", "127.0.0.1:9191 "} {
		if a, err := ParseAddress(s); err == nil {
			t.Errorf("%q is read as %v", s, a)
		}
	}
	local := map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "unix:/a": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "192.0.2.1:1": false, "example.com:1": false,
	}
	for s, want := range local {
		a, err := ParseAddress(s)
		if err != nil || a.Local() != want {
			t.Errorf("%s is local: %v, %v, want %v", s, a.Local(), err, want)
		}
	}
}
