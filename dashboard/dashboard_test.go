package dashboard_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"extauthz/authz"
	"extauthz/dashboard"
	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/keystore/yamlfile"
	"extauthz/usage"
	"extauthz/usage/boltfile"
)

// A roleLogin logs every user in with a role.
type roleLogin dashboard.Role

func (roleLogin) Page(*http.Request) dashboard.LoginPage {
	return dashboard.LoginPage{Button: "Log in"}
}

func (l roleLogin) Begin(http.ResponseWriter, *http.Request) (string, dashboard.Role, string, error) {
	return "alice", dashboard.Role(l), "", nil
}

func (roleLogin) Callback(http.ResponseWriter, *http.Request) (string, dashboard.Role, error) {
	return "", dashboard.Nobody, errors.New("not used")
}

// A site is a dashboard over a key file, with a browser that is logged in.
type site struct {
	t      *testing.T
	url    string
	client *http.Client
	dir    string
	keys   *yamlfile.Editor
	usage  usage.Store
	now    time.Time
}

func newSite(t *testing.T, login dashboard.Login) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{
		t: t, dir: dir, keys: yamlfile.NewEditor(filepath.Join(dir, "keys.yaml")), now: time.Now().UTC().Truncate(time.Second),
		usage: boltfile.Open(filepath.Join(dir, "usage.db"), usage.Limits{AddressesPerKey: 256, Retention: 720 * time.Hour}),
	}
	if err := os.WriteFile(filepath.Join(dir, "keys.yaml"), []byte("keys: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	d, err := dashboard.New(dashboard.Config{Keys: s.keys, History: s.keys.History, Usage: s.usage, Login: login, Hosts: []string{server.Listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = d
	server.Start()
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.url, s.client = server.URL, &http.Client{Jar: jar}
	return s
}

// asEditor returns a site whose user may change keys.
func asEditor(t *testing.T) *site {
	t.Helper()
	s := newSite(t, roleLogin(dashboard.Editor))
	s.post("/login", url.Values{}, http.StatusOK)
	return s
}

func (s *site) add(id string, list ...string) *keystore.Key {
	s.t.Helper()
	k := storetest.NewKey(id, list...)
	if err := s.keys.Add(s.t.Context(), k); err != nil {
		s.t.Fatal(err)
	}
	return k
}

func (s *site) key(id string) *keystore.Key {
	s.t.Helper()
	k, err := s.keys.Key(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return k
}

// breakStore makes the key file unreadable.
func (s *site) breakStore() {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "keys.yaml"), []byte("keys: {"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// use records requests of a key from an address.
func (s *site) use(id, address string, code authz.Code, n int) {
	s.t.Helper()
	r := usage.NewRecorder(usage.RecorderConfig{Store: s.usage})
	for range n {
		r.Record(&usage.Event{KeyID: id, Addr: netip.MustParseAddr(address), Code: code, Time: s.now})
	}
	if err := r.Flush(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) do(r *http.Request, status int) string {
	s.t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != status {
		s.t.Fatalf("%s %s: %d, want %d\n%s", r.Method, r.URL, resp.StatusCode, status, body)
	}
	return string(body)
}

func (s *site) get(path string, status int) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(r, status)
}

func (s *site) post(path string, form url.Values, status int) string {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.do(r, status)
}

var versionField = regexp.MustCompile(`name="version" value="([0-9a-f]+)"`)

// form returns the values of a form on the key's page, with the given ones.
func (s *site) form(id string, values ...string) url.Values {
	s.t.Helper()
	m := versionField.FindStringSubmatch(s.get("/keys/"+id, http.StatusOK))
	if m == nil {
		s.t.Fatalf("the page of %s has no form", id)
	}
	f := url.Values{"version": {m[1]}}
	for i := 0; i < len(values); i += 2 {
		f.Set(values[i], values[i+1])
	}
	return f
}

func (s *site) wantList(id string, want string) {
	s.t.Helper()
	var got []string
	for _, p := range s.key(id).Whitelist.Prefixes() {
		got = append(got, keystore.FormatWhitelistEntry(p))
	}
	if strings.Join(got, " ") != want {
		s.t.Errorf("the list of %s is %v, want %s", id, got, want)
	}
}

func want(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q:\n%s", text, page)
		}
	}
}

func TestKeysPage(t *testing.T) {
	s := asEditor(t)
	want(t, s.get("/", 200), "There are no keys yet", `href="/new"`)
	want(t, s.get("/?q=none", 200), "No key matches", "Show all keys")
	s.add("key_acme", "10.0.0.0/8", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
	s.add("key_anywhere")
	for i := range 60 {
		s.add(fmt.Sprintf("key_n%02d", i), "198.51.100.1")
	}
	s.use("key_acme", "10.0.0.1", authz.Valid, 3)
	page := s.get("/", 200)
	want(t, page, `href="/keys/key_acme"`, "<code>10.0.0.0/8</code>", "and 2 more", "anywhere", "Next page", "never")
	if strings.Contains(page, "key_n59") {
		t.Error("the first page has every key")
	}
	want(t, s.get("/?after=key_n47", 200), "key_n48", "key_n59", "First page")
	want(t, s.get("/?q=KEY_AC", 200), "key_acme")
	found := s.get("/?q=10.1.2.3", 200)
	want(t, found, "key_acme", "10.1.2.3")
	if strings.Contains(found, "key_n00") {
		t.Error("a search by address finds a key that does not list it")
	}
	unused := s.get("/?filter=unused", 200)
	want(t, unused, "key_anywhere")
	if strings.Contains(unused, `"/keys/key_acme"`) {
		t.Error("a key that was used is listed as unused")
	}
	want(t, s.get("/?filter=unrestricted", 200), "key_anywhere")
}

func TestKeyPage(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/24")
	s.use("key_acme", "10.0.0.1", authz.Valid, 40)
	s.use("key_acme", "10.0.0.2", authz.Valid, 2)
	s.use("key_acme", "203.0.113.7", authz.Forbidden, 3)
	page := s.get("/keys/key_acme", 200)
	want(t, page, "It works from the addresses on its whitelist", "last used", "203.0.113.7", "FORBIDDEN 3", "Proposed whitelist", "2 addresses", "<svg", "Rotate")
	want(t, s.get("/keys/key_acme?widen=yes", 200), "10.0.0.0/30")
	s.get("/keys/none", 404)
	want(t, s.get("/refusals", 200), "key_acme", "203.0.113.7", "Allow this address")
	want(t, s.get("/state", 200), "answers", "enforced")
	want(t, s.get("/check", 200), "does not offer")
	want(t, s.get("/new", 200), "New key")
}

func TestEdits(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/24")

	page := s.post("/keys/key_acme/allow", s.form("key_acme", "entries", "192.0.2.7\n10.1.2.3/8\n\nexample.com"), 422)
	want(t, page, "Nothing was changed", `"Line">2</td>`, "did you mean 10.0.0.0/8", `"Line">4</td>`, "is a name", "192.0.2.7\n10.1.2.3/8")
	s.wantList("key_acme", "10.0.0.0/24")

	page = s.post("/keys/key_acme/allow", s.form("key_acme", "entries", "192.0.2.7 # office\n\"2001:db8::/32\",\n- 192.0.2.7"), 200)
	want(t, page, "The addresses were added.")
	s.wantList("key_acme", "10.0.0.0/24 192.0.2.7 2001:db8::/32")

	s.post("/keys/key_acme/disallow", s.form("key_acme", "entry", "192.0.2.7"), 200)
	s.wantList("key_acme", "10.0.0.0/24 2001:db8::/32")
	s.post("/keys/key_acme/disallow", s.form("key_acme", "entry", "192.0.2.7"), 422)

	s.post("/keys/key_acme/mode", s.form("key_acme", "mode", "nonsense"), 422)
	s.post("/keys/key_acme/expire", s.form("key_acme", "expires", "2031-01-31T10:00"), 200)
	if got := s.key("key_acme").Expires; !got.Equal(time.Date(2031, 1, 31, 10, 0, 0, 0, time.UTC)) {
		t.Errorf("expires %s", got)
	}
	s.post("/keys/key_acme/disable", s.form("key_acme"), 200)
	if s.key("key_acme").Enabled {
		t.Error("it is enabled")
	}
	want(t, s.post("/keys/key_acme/enable", s.form("key_acme"), 200), "The key is enabled.")
	s.post("/keys/none/disable", url.Values{}, 404)
}

// TestShutOut asks for confirmation of an edit that refuses addresses that were allowed recently.
func TestShutOut(t *testing.T) {
	s := asEditor(t)
	s.add("key_open")
	s.use("key_open", "203.0.113.7", authz.Valid, 5)
	form := s.form("key_open", "entries", "192.0.2.7")
	page := s.post("/keys/key_open/allow", form, 409)
	want(t, page, "Please confirm", "5 requests of 5", "203.0.113.7", "192.0.2.7")
	if s.key("key_open").Whitelist.Restricted() {
		t.Fatal("it was changed before it was confirmed")
	}
	form.Set("confirmed", "yes")
	s.post("/keys/key_open/allow", form, 200)
	s.wantList("key_open", "192.0.2.7")

	s.add("key_used", "203.0.113.0/24")
	s.use("key_used", "203.0.113.7", authz.Valid, 1)
	want(t, s.post("/keys/key_used/expire", s.form("key_used", "expires", "2020-01-01"), 409), "1 request of 1")
	if !s.key("key_used").Expires.IsZero() {
		t.Error("it expires before that was confirmed")
	}
	s.use("key_used", "203.0.113.7", authz.Valid, 1)
	want(t, s.post("/keys/key_used/disable", s.form("key_used"), 409), "2 requests of 2")
	s.post("/keys/key_used/allow", s.form("key_used", "entries", "192.0.2.7"), 200) // refuses no recent address
}

// TestTwoEditors: the second of two concurrent edits is shown the first.
func TestTwoEditors(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/24")
	one, two := s.form("key_acme", "entries", "192.0.2.1"), s.form("key_acme", "entries", "192.0.2.2")
	s.post("/keys/key_acme/allow", one, 200)
	page := s.post("/keys/key_acme/allow", two, 409)
	want(t, page, "has changed since the page was shown")
	s.wantList("key_acme", "10.0.0.0/24 192.0.2.1")
	two.Set("confirmed", "yes") // has no effect with the old version
	page = s.post("/keys/key_acme/allow", two, 409)
	two.Set("version", versionField.FindStringSubmatch(page)[1])
	s.post("/keys/key_acme/allow", two, 200)
	s.wantList("key_acme", "10.0.0.0/24 192.0.2.1 192.0.2.2")
}

func TestProposal(t *testing.T) {
	s := asEditor(t)
	s.add("key_open")
	s.use("key_open", "203.0.113.6", authz.Valid, 5)
	s.use("key_open", "203.0.113.7", authz.Valid, 5)
	want(t, s.get("/keys/key_open", 200), "<code>203.0.113.6/31</code>")
	want(t, s.post("/keys/key_open/evaluate", s.form("key_open", "entries", "203.0.113.6"), 200), "would have refused 5", "203.0.113.7", ">203.0.113.6</textarea>")
	want(t, s.post("/keys/key_open/evaluate?of=proposal", s.form("key_open", "entries", "203.0.113.6/31\n"), 200), "would have refused 0", "Replace the whitelist with these")
	s.post("/keys/key_open/whitelist", s.form("key_open", "entries", "203.0.113.6/31"), 200)
	s.wantList("key_open", "203.0.113.6/31")
}

var secretText = regexp.MustCompile(`<code id="secret">(sk_[1-9A-Za-z]+)</code>`)

func TestNewKeyAndRotation(t *testing.T) {
	s := asEditor(t)
	s.post("/new", url.Values{"id": {"key_new"}}, 422) // from where?
	page := s.post("/new", url.Values{"id": {"key_new"}, "name": {"New"}, "entries": {"192.0.2.7"}, "mode": {"enforce"}, "permissions": {"a.read b.write"}}, 201)
	m := secretText.FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no secret on\n%s", page)
	}
	k := s.key("key_new")
	if k.Hash != keystore.Secret(m[1]).Hash() || len(k.Permissions) != 2 {
		t.Errorf("the key is %+v", k)
	}
	want(t, s.post("/new", url.Values{"id": {"key_new"}, "anywhere": {"yes"}}, 422), "already")
	want(t, s.post("/new", url.Values{"id": {"a b"}, "anywhere": {"yes"}}, 422), "character other than")

	want(t, s.post("/keys/key_new/rotate", s.form("key_new", "grace", "0"), 200), "stops working at once", "Yes")
	page = s.post("/keys/key_new/rotate", s.form("key_new", "grace", "0", "confirmed", "yes"), 200)
	next := secretText.FindStringSubmatch(page)
	if next == nil || s.key("key_new").Hash != keystore.Secret(next[1]).Hash() {
		t.Errorf("the rotated secret is not the key's:\n%s", page)
	}
	s.post("/keys/key_new/rotate", s.form("key_new", "grace", "forever"), 400)
}

// TestAllowARefused allows an address on the page of refusals, which asks for confirmation, writes the
// change, and shows it.
func TestAllowARefused(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/24")
	s.use("key_acme", "203.0.113.7", authz.Forbidden, 3)
	s.use("key_acme", "2001:db8:1:2::9", authz.Forbidden, 1)
	s.use("key_gone", "203.0.113.8", authz.Forbidden, 1)
	page := s.get("/refusals", 200)
	want(t, page, "203.0.113.7", "FORBIDDEN 3", "2001:db8:1:2::/64", "key_gone (deleted)", " s ago", "/check?key=key_acme&amp;peer=203.0.113.7")
	if n := strings.Count(page, "<button>Allow this address"); n != 2 {
		t.Errorf("%d addresses can be allowed, want 2: not one of a key that is gone", n)
	}
	form := s.form("key_acme", "entries", "203.0.113.7", "ask", "yes")
	want(t, s.post("/keys/key_acme/allow", form, 200), "Nothing was changed yet", "Shall the key work from 203.0.113.7 too?", ">Yes</button>")
	s.wantList("key_acme", "10.0.0.0/24")
	form.Del("ask")
	form.Set("confirmed", "yes")
	want(t, s.post("/keys/key_acme/allow", form, 200), "The addresses were added.", "<code>203.0.113.7</code>")
	s.wantList("key_acme", "10.0.0.0/24 203.0.113.7")
	want(t, s.get("/refusals", 200), "on the whitelist now")
}

// TestUnaskableText searches for text that no store can search for.
func TestUnaskableText(t *testing.T) {
	s := asEditor(t)
	s.add("key_acme", "10.0.0.0/24")
	for _, path := range []string{"/?q=%ff%00", "/?q=" + strings.Repeat("%c3%a9", 200), "/?after=%00", "/?filter=%ff", "/?q=%2e&after=" + strings.Repeat("x", 5000)} {
		s.get(path, 200)
	}
	for _, path := range []string{"/keys/%ff", "/keys/%00", "/keys/a%20b", "/keys/" + strings.Repeat("x", 5000), "/keys/%2e%2e"} {
		s.get(path, 404)
	}
	s.get("/check?key=%ff&peer=%ff&xff=%00", 200)
}
