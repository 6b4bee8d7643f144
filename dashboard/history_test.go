package dashboard_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"extauthz/dashboard"
	"extauthz/keystore"
)

// Every change on the page is in the history under the user's name, without hashes.
func TestHistory(t *testing.T) {
	s := asEditor(t)
	s.post("/new", url.Values{"id": {"key_a"}, "entries": {"192.0.2.7"}}, http.StatusCreated)
	version := func() string {
		return regexp.MustCompile(`name="version" value="([0-9a-f]+)"`).FindStringSubmatch(s.get("/keys/key_a", 200))[1]
	}
	hashes := []string{s.key("key_a").Hash.String()}
	for _, f := range []struct {
		action string
		form   url.Values
		says   string
	}{
		{"allow", url.Values{"entries": {"10.0.0.0/8"}}, "ip_whitelist: added 10.0.0.0/8"},
		{"disallow", url.Values{"entry": {"192.0.2.7"}}, "ip_whitelist: removed 192.0.2.7"},
		{"mode", url.Values{"mode": {"report"}}, "ip_whitelist_mode: report"},
		{"disable", url.Values{}, "enabled: true → false"},
		{"expire", url.Values{"expires": {"2100-01-01T00:00"}}, "expires: 2100-01-01T00:00:00Z"},
		{"rotate", url.Values{"grace": {"24h"}}, "hash: changed"},
	} {
		f.form.Set("version", version())
		if f.action == "rotate" {
			s.post("/keys/key_a/rotate", f.form, 200)
		} else {
			s.post("/keys/key_a/"+f.action, f.form, 200)
		}
		hashes = append(hashes, s.key("key_a").Hash.String())
		page := s.get("/keys/key_a", 200)
		newest := page[strings.Index(page, `id="history"`):]
		newest = newest[strings.Index(newest, "<tbody>"):strings.Index(newest, "</tr><tr>")]
		if !strings.Contains(newest, `data-label="Who">alice<`) || !strings.Contains(newest, f.says) {
			t.Errorf("%s: the newest edit is\n%s", f.action, newest)
		}
		for _, h := range hashes {
			if strings.Contains(page, h) {
				t.Errorf("%s: the page has a hash", f.action)
			}
		}
	}
}

// A user whose form is out of date sees who changed the key meanwhile.
func TestConflictNamesWho(t *testing.T) {
	s := asEditor(t)
	s.add("key_a", "192.0.2.7")
	version := regexp.MustCompile(`name="version" value="([0-9a-f]+)"`).FindStringSubmatch(s.get("/keys/key_a", 200))[1]
	if err := s.keys.Update(keystore.WithActor(t.Context(), "bob@host"), "key_a", func(k *keystore.Key) error { k.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	page := s.post("/keys/key_a/allow", url.Values{"entries": {"10.0.0.0/8"}, "version": {version}}, http.StatusConflict)
	want(t, page, "bob@host")
	want(t, page, "enabled: true → false")
}

// A viewer sees the history too.
func TestHistoryForViewers(t *testing.T) {
	s := newSite(t, roleLogin(dashboard.Viewer))
	s.post("/login", url.Values{}, http.StatusOK)
	s.add("key_a")
	want(t, s.get("/keys/key_a", 200), `id="history"`)
}
