package yamlfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"extauthz/keystore"
	"extauthz/keystore/storetest"
	"extauthz/strictyaml"
)

const commented = `# Keys of the gateway.
# Ask Bob before you change them.

keys:
  # Acme
  - id: key_a   # the first
    hash: ` + hashA + `  # of their secret
    name:   "Acme, Inc."   # spaces as they are
    # from the office
    ip_whitelist:
      - 10.0.0.0/8   # office
      # the VPN
      - 192.0.2.7    # VPN
    enabled: true    # for now
    meta: {plan: pro}
    # ends here

  # Beta

  - hash: ` + hashB + `
    id: key_b
    ip_whitelist: [192.0.2.1,   "2001:db8::/32"]   # two of them
    external_id: 'beta'
# the end
`

func whitelist(entries ...string) keystore.Whitelist { return storetest.Whitelist(entries...) }

func edit(id string, change func(*keystore.Key)) func(*testing.T, *Editor) {
	return func(t *testing.T, e *Editor) {
		t.Helper()
		must(t, e.Update(t.Context(), id, func(k *keystore.Key) error { change(k); return nil }))
	}
}

// Each edit replaces some lines and changes no byte of the others.
func TestEditsKeepTheRest(t *testing.T) {
	for name, test := range map[string]struct {
		edit     func(*testing.T, *Editor)
		old, new string
	}{
		"disable":       {edit("key_a", func(k *keystore.Key) { k.Enabled = false }), "enabled: true    # for now", "enabled: false    # for now"},
		"rename":        {edit("key_a", func(k *keystore.Key) { k.Name = "New" }), `name:   "Acme, Inc."   # spaces`, "name: New   # spaces"},
		"no name":       {edit("key_a", func(k *keystore.Key) { k.Name = "" }), "    name:   \"Acme, Inc.\"   # spaces as they are\n", ""},
		"new hash":      {edit("key_a", func(k *keystore.Key) { k.Hash = storetest.SecretOf("x").Hash() }), hashA, storetest.SecretOf("x").Hash().String()},
		"hash on top":   {edit("key_b", func(k *keystore.Key) { k.Hash = storetest.SecretOf("x").Hash() }), hashB, storetest.SecretOf("x").Hash().String()},
		"allow":         {edit("key_a", func(k *keystore.Key) { k.Whitelist = whitelist("10.0.0.0/8", "192.0.2.7", "2001:db8::1") }), "# VPN\n", "# VPN\n      - \"2001:db8::1\"\n"},
		"disallow":      {edit("key_a", func(k *keystore.Key) { k.Whitelist = whitelist("192.0.2.7") }), "      - 10.0.0.0/8   # office\n", ""},
		"other entries": {edit("key_a", func(k *keystore.Key) { k.Whitelist = whitelist("192.0.2.8") }), "      - 10.0.0.0/8   # office\n      # the VPN\n      - 192.0.2.7    # VPN\n", "      # the VPN\n      - 192.0.2.8\n"},
		"anywhere":      {edit("key_a", func(k *keystore.Key) { k.Whitelist = keystore.Anywhere() }), "    ip_whitelist:\n      - 10.0.0.0/8   # office\n      # the VPN\n      - 192.0.2.7    # VPN\n", ""},
		"allow in line": {edit("key_b", func(k *keystore.Key) { k.Whitelist = whitelist("192.0.2.1", "2001:db8::/32", "10.0.0.0/8") }), `[192.0.2.1,   "2001:db8::/32"]   # two`, `[192.0.2.1, "2001:db8::/32", 10.0.0.0/8]   # two`},
		"report":        {edit("key_b", func(k *keystore.Key) { k.WhitelistMode = keystore.Report }), "external_id: 'beta'\n", "external_id: 'beta'\n    ip_whitelist_mode: report\n"},
		"new fields": {edit("key_b", func(k *keystore.Key) {
			k.Enabled, k.Expires = false, time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
		}), "external_id: 'beta'\n", "external_id: 'beta'\n    enabled: false\n    expires: 2027-01-31T00:00:00Z\n"},
		"meta":        {edit("key_a", func(k *keystore.Key) { k.Meta = []byte(`{"a":[1,"x: y"]}`) }), "meta: {plan: pro}", `meta: {a: [1, "x: y"]}`},
		"no change":   {edit("key_a", func(k *keystore.Key) { k.Meta = []byte(`{ "plan": "pro" }`) }), "", ""},
		"delete":      {func(t *testing.T, e *Editor) { must(t, e.Delete(t.Context(), "key_b")) }, commented[strings.Index(commented, "  - hash"):strings.Index(commented, "# the end")], ""},
		"delete last": {func(t *testing.T, e *Editor) { must(t, e.Delete(t.Context(), "key_a")) }, commented[strings.Index(commented, "  - id: key_a"):strings.Index(commented, "\n  # Beta")], ""},
		"add": {func(t *testing.T, e *Editor) {
			must(t, e.Add(t.Context(), &keystore.Key{ID: "yes", Name: "Zürich: #1", Hash: storetest.SecretOf("x").Hash(), Whitelist: whitelist("10.0.0.0/8", "::1"), Enabled: true}))
		}, "external_id: 'beta'\n", "external_id: 'beta'\n  - id: \"yes\"\n    name: \"Zürich: #1\"\n    hash: " + storetest.SecretOf("x").Hash().String() + "\n    ip_whitelist: [10.0.0.0/8, \"::1\"]\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, lineEnd := range []string{"\n", "\r\n"} {
				path := filepath.Join(t.TempDir(), "keys.yaml")
				lines := strings.NewReplacer("\n", lineEnd)
				write(t, path, lines.Replace(commented))
				test.edit(t, NewEditor(path))
				if strings.Count(commented, test.old) != 1 && test.old != "" {
					t.Fatalf("%q is not once in the file", test.old)
				}
				want := lines.Replace(strings.Replace(commented, test.old, test.new, 1))
				if got := content(t, path); got != want {
					t.Errorf("%q:\n%s\nwant:\n%s", lineEnd, got, want)
				}
			}
		})
	}
}

// A rotation changes the two hashes and keeps every comment.
func TestRotationInAFile(t *testing.T) {
	const file = `keys:
  # Acme
  - id: key_a
    hash: ` + hashA + ` # of 2026
    ip_whitelist_mode: report # until May
    ip_whitelist: [10.0.0.0/8]
    previous: {hash: ` + hashB + `, until: 2026-01-31T00:00:00Z} # of 2025
  - id: key_b
    hash: ` + hashC + `
    previous:
      # from the old system
      hash: 4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865 # Bob has it
      until: 2026-01-31T00:00:00Z
    enabled: false
`
	path := filepath.Join(t.TempDir(), "keys.yaml")
	write(t, path, file)
	e, until := NewEditor(path), time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	rotate := func(secret string) func(*keystore.Key) {
		return func(k *keystore.Key) { k.Rotate(storetest.SecretOf(secret).Hash(), until) }
	}
	edit("key_a", rotate("a"))(t, e)
	a := storetest.SecretOf("a").Hash().String()
	want := strings.NewReplacer(hashA+" # of 2026", a+" # of 2026", hashB+", until: 2026", hashA+", until: 2027").Replace(file)
	if got := content(t, path); got != want {
		t.Errorf("after a rotation:\n%s\nwant:\n%s", got, want)
	}
	edit("key_a", func(k *keystore.Key) { k.WhitelistMode, k.Previous = keystore.Enforce, keystore.PreviousSecret{} })(t, e)
	i, j := strings.Index(want, "    previous"), strings.Index(want, "  - id: key_b")
	want = strings.Replace(want[:i]+want[j:], "    ip_whitelist_mode: report # until May\n", "", 1)
	if got := content(t, path); got != want {
		t.Errorf("after the grace:\n%s\nwant:\n%s", got, want)
	}
	edit("key_b", rotate("b"))(t, e)
	for _, comment := range []string{"# from the old system", "# Bob has it", "# Acme"} {
		if got := content(t, path); !strings.Contains(got, comment) {
			t.Errorf("the comment %q is lost:\n%s", comment, got)
		}
	}
}

// Files in unusual styles are edited too, or refused and not changed.
func TestEditsOfUnusualFiles(t *testing.T) {
	for name, test := range map[string]struct{ text, want, err string }{
		"no list yet":     {"# mine\nkeys:   # none\n\n", "# mine\nkeys:   # none\n  NEW\n\n", ""},
		"empty list":      {"keys: [] # none\n# end", "keys: # none\n  NEW\n# end", ""},
		"empty":           {"", "keys:\n  NEW\n", ""},
		"comments alone":  {"# mine", "# mine\nkeys:\n  NEW\n", ""},
		"no line end":     {"keys:\n- id: key_a\n  hash: " + hashA, "keys:\n- id: key_a\n  hash: " + hashA + "\nNEW\n", ""},
		"indented root":   {"  keys:\n    - id: key_a\n      hash: " + hashA + "\n", "  keys:\n    - id: key_a\n      hash: " + hashA + "\n    NEW\n", ""},
		"indented, empty": {"  keys: []\n", "  keys:\n  NEW\n", ""},
		"far in":          {"keys:\n      -   id: key_a\n          hash: " + hashA + "\n", "keys:\n      -   id: key_a\n          hash: " + hashA + "\n      NEW\n", ""},
		"document marks":  {"---\nkeys:\n  - {id: key_a, hash: " + hashA + "}\n\n...\n", "---\nkeys:\n  - {id: key_a, hash: " + hashA + "}\n  NEW\n\n...\n", ""},
		"brackets":        {"keys: [{id: key_a, hash: " + hashA + "}]\n", "", "k.yaml:1:7: the keys are written in brackets"},
		"bad":             {"keys: [\n", "", "k.yaml:1:1: not YAML"},
		"same id":         {"keys:\n  - id: new\n    hash: " + hashA + "\n", "", "already exists"},
		"same hash":       {"keys:\n  - id: key_a\n    hash: " + hashC + "\n", "", "already exists"},
		"text in a block": {"keys:\n  - id: key_a\n    hash: " + hashA + "\n    meta: |\n      a\n      # b\n\n", "keys:\n  - id: key_a\n    hash: " + hashA + "\n    meta: |\n      a\n      # b\n  NEW\n\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k.yaml")
			write(t, path, test.text)
			k := &keystore.Key{ID: "new", Enabled: true, Whitelist: keystore.Anywhere()}
			k.Hash, _ = keystore.ParseHash(hashC)
			err := NewEditor(path).Add(t.Context(), k)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || content(t, path) != test.text {
					t.Errorf("got error %v, want %s; the file is\n%s", err, test.err, content(t, path))
				}
				return
			}
			must(t, err)
			indent := test.want[strings.LastIndex(test.want[:strings.Index(test.want, "NEW")], "\n")+1 : strings.Index(test.want, "NEW")]
			want := strings.Replace(test.want, "NEW", "- id: new\n"+indent+"  hash: "+hashC, 1)
			if got := content(t, path); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestEditsOfUnusualKeys(t *testing.T) {
	const b = "  - id: key_b\n    hash: " + hashB + "\n"
	for name, test := range map[string]struct{ text, want string }{
		"comments":      {"keys:\n  - {id: key_a,\n      # a\n      hash: " + hashA + "} # b\n\n      # c\n      # d\n", "keys:\n  # b\n  # a\n  # c\n  # d\n  - id: key_a\n    name: new\n    hash: " + hashA + "\n"},
		"braces":        {"keys:\n  - {id: key_a, hash: " + hashA + "}\n", "keys:\n  - id: key_a\n    name: new\n    hash: " + hashA + "\n"},
		"name on top":   {"keys:\n  - name: old # this\n    id: key_a\n    hash: " + hashA + "\n", "keys:\n  - name: new # this\n    id: key_a\n    hash: " + hashA + "\n"},
		"dash alone":    {"keys:\n  -\n    id: key_a\n    name: a\n      b # c\n    hash: " + hashA + "\n", "keys:\n  -\n    id: key_a\n    name: new\n    hash: " + hashA + "\n"},
		"quoted fields": {"keys:\n  - \"id\": key_a\n    'name': old\n    \"hash\": " + hashA + "\n", "keys:\n  - \"id\": key_a\n    name: new\n    \"hash\": " + hashA + "\n"},
		"name as value": {"keys:\n  - id: name\n    hash: " + hashA + "\n    external_id: name\n", "keys:\n  - id: name\n    hash: " + hashA + "\n    external_id: name\n    name: new\n"},
		"keys at all":   {"keys:\n- id: key_a\n  hash: " + hashA + "\n  ip_whitelist:\n  - 10.0.0.1\n", "keys:\n- id: key_a\n  hash: " + hashA + "\n  ip_whitelist:\n  - 10.0.0.1\n  name: new\n"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k.yaml")
			if strings.Contains(test.text, "keys:\n- ") {
				write(t, path, test.text)
			} else {
				write(t, path, test.text+b)
				test.want += b
			}
			id := "key_a"
			if !strings.Contains(test.text, id) {
				id = "name"
			}
			edit(id, func(k *keystore.Key) { k.Name = "new" })(t, NewEditor(path))
			if got := content(t, path); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// An edit that would change another key, or break the file, is refused.
func TestEditsThatCannotBe(t *testing.T) {
	text := "keys:\n  - id: key_a\n    hash: " + hashA + "\n    ip_whitelist: &w [10.0.0.1]\n  - id: key_b\n    hash: " + hashB + "\n    ip_whitelist: *w\n"
	path := filepath.Join(t.TempDir(), "k.yaml")
	write(t, path, text)
	e := NewEditor(path)
	if err := e.Delete(t.Context(), "key_a"); err == nil || !strings.Contains(err.Error(), "this edit would break the file") {
		t.Errorf("got %v", err)
	} else if _, ok := errors.AsType[strictyaml.Errors](err); ok {
		t.Error("the error has a place, which is not in the file as it is")
	}
	if err := e.Update(t.Context(), "key_a", func(k *keystore.Key) error { k.Whitelist = whitelist("10.0.0.2"); return nil }); err == nil {
		t.Error("the list that another key uses was changed")
	}
	broken := storetest.NewKey("key_c")
	broken.Broken = errors.New("a bad row")
	if err := e.Put(t.Context(), []*keystore.Key{broken}); err == nil || !strings.Contains(err.Error(), "a bad row") {
		t.Errorf("got %v", err)
	}
	if got := content(t, path); got != text {
		t.Errorf("the file is now\n%s", got)
	}
	edit("key_b", func(k *keystore.Key) { k.Whitelist = whitelist("10.0.0.3") })(t, e)
	if got, want := content(t, path), strings.Replace(text, "*w", "[10.0.0.3]", 1); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestDeleteAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "k.yaml")
	write(t, path, "# mine\nkeys: # ours\n  # a\n  - id: key_a\n    hash: "+hashA+"\n# end\n")
	must(t, NewEditor(path).Delete(t.Context(), "key_a"))
	if got, want := content(t, path), "# mine\nkeys: [] # ours\n  # a\n# end\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if s, err := Open(path, Options{}); err != nil || s.Len() != 0 {
		t.Error(s, err)
	}
}

// New files are readable by their owner only; others keep their mode, and links stay links.
func TestFilesOfEdits(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "keys.yaml"), filepath.Join(t.TempDir(), "link.yaml")
	must(t, os.Symlink(path, link))
	if err := NewEditor(link).Add(t.Context(), storetest.NewKey("a")); err == nil || !strings.Contains(err.Error(), "a broken link") {
		t.Errorf("got %v", err)
	}
	must(t, NewEditor(path).Add(t.Context(), storetest.NewKey("a")))
	mode := func() os.FileMode {
		info, err := os.Stat(path)
		must(t, err)
		return info.Mode()
	}
	if mode() != 0o600 {
		t.Errorf("a new file has mode %v", mode())
	}
	must(t, os.Chmod(path, 0o640))
	must(t, NewEditor(link).Add(t.Context(), storetest.NewKey("b")))
	info, err := os.Lstat(link)
	must(t, err)
	if mode() != 0o640 || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("after an edit the file has mode %v, and the link %v", mode(), info.Mode())
	}
	if s, err := Open(path, Options{}); err != nil || ids(s) != "a b" {
		t.Error(s, err)
	}
	left, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range left {
		if n := e.Name(); n != "keys.yaml" && n != "keys.yaml.audit" && n != ".keys.yaml.lock" {
			t.Errorf("%s was left behind", n)
		}
	}
}

// Users who could read a file still can after an edit, and can read a new file beside it.
func TestEditsKeepAccess(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "other.yaml")
	write(t, path, keys("a"))
	must(t, os.Chown(path, 65532, 65533)) // this test has to run as root
	must(t, os.Chmod(path, 0o640))
	acl := []byte{2, 0, 0, 0} // version 2, then tag, permissions and id of each entry, as in linux/posix_acl_xattr.h
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 6, 1<<32 - 1}, {2, 4, 12345}, {4, 4, 1<<32 - 1}, {16, 4, 1<<32 - 1}, {32, 0, 1<<32 - 1}} {
		acl = binary.LittleEndian.AppendUint16(acl, e.tag)
		acl = binary.LittleEndian.AppendUint16(acl, e.perm)
		acl = binary.LittleEndian.AppendUint32(acl, e.id)
	}
	const attribute = "system.posix_acl_access"
	must(t, unix.Setxattr(path, attribute, acl, 0))
	must(t, NewEditor(path).Add(t.Context(), storetest.NewKey("b")))
	must(t, NewEditor(dir).Add(t.Context(), storetest.NewKey("c"))) // to keys.yaml, a new file
	for _, p := range []string{path, filepath.Join(dir, "keys.yaml")} {
		var s unix.Stat_t
		must(t, unix.Stat(p, &s))
		got := make([]byte, 1024)
		n, err := unix.Getxattr(p, attribute, got)
		must(t, err)
		if s.Uid != 65532 || s.Gid != 65533 || s.Mode&0o777 != 0o640 || !bytes.Equal(got[:n], acl) {
			t.Errorf("%s: user %d, group %d, mode %o, access control list %x", p, s.Uid, s.Gid, s.Mode, got[:n])
		}
	}
}

// In a folder a change goes to the file that holds the key, and new keys to keys.yaml.
func TestEditsOfFolder(t *testing.T) {
	dir := t.TempDir()
	e := NewEditor(dir)
	must(t, e.Add(t.Context(), storetest.NewKey("a"))) // there is no file yet
	other := filepath.Join(dir, "other.yaml")
	write(t, other, "keys:\n- id: o\n  hash: "+hashA+"\n")
	must(t, e.Put(t.Context(), []*keystore.Key{storetest.NewKey("b"), storetest.NewKey("a", "10.0.0.1")}))
	edit("o", func(k *keystore.Key) { k.Name = "other" })(t, e)
	want := "keys:\n- id: o\n  hash: " + hashA + "\n  name: other\n"
	if got := content(t, other); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := content(t, filepath.Join(dir, "keys.yaml")); !strings.Contains(got, "id: a\n") || !strings.Contains(got, "[10.0.0.1]") || !strings.Contains(got, "id: b\n") {
		t.Errorf("got\n%s", got)
	}
	another := storetest.NewKey("x")
	another.Hash, _ = keystore.ParseHash(hashA)
	if err := e.Add(t.Context(), another); !errors.Is(err, keystore.ErrExists) {
		t.Errorf("got %v", err)
	}
}

// Concurrent editors of one file, each with its own lock like other processes, lose nothing.
func TestEditorsTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.yaml")
	var editors sync.WaitGroup
	for i := range 8 {
		editors.Go(func() {
			for j := range 5 {
				if err := NewEditor(path).Add(t.Context(), storetest.NewKey(fmt.Sprintf("key_%d_%d", i, j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	editors.Wait()
	if s, err := Open(path, Options{}); err != nil || s.Len() != 40 {
		t.Errorf("%v keys, error %v", s, err)
	}
}

func TestMarshalKey(t *testing.T) {
	k := &keystore.Key{
		ID: "key_acme_prod", Name: "Acme (production)", Whitelist: whitelist("192.168.1.100", "10.0.0.0/8", "2001:db8::/32"), Enabled: true,
		Expires: time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC), ExternalID: "acme", Permissions: []string{"documents.read", "a:*"}, Roles: []string{"no"},
		Ratelimits: []keystore.Ratelimit{{Name: "requests", Limit: 100, Duration: time.Minute}, {Name: "exports", Limit: 5, Duration: time.Hour, OnDemand: true}},
		Meta:       []byte(`{"plan": "pro", "e": "\ud83d\ude00\/", "m": [1.50, null, "null", -1e5]}`),
	}
	k.Hash, _ = keystore.ParseHash(hashA)
	want := `  - id: key_acme_prod
    name: Acme (production)
    hash: ` + hashA + `
    ip_whitelist: [192.168.1.100, 10.0.0.0/8, "2001:db8::/32"]
    expires: 2027-01-31T00:00:00Z
    external_id: acme
    permissions: [documents.read, "a:*"]
    roles: ["no"]
    ratelimits: [{name: requests, limit: 100, duration: 1m}, {name: exports, limit: 5, duration: 1h, auto_apply: false}]
    meta: {plan: pro, e: "😀/", m: [1.50, null, "null", -1e5]}
`
	if got, err := MarshalKey(k); err != nil || string(got) != want {
		t.Errorf("error %v, got\n%s\nwant\n%s", err, got, want)
	}
	// A long list gets a line for each entry.
	var entries []string
	for i := range 20 {
		entries = append(entries, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}).String())
	}
	got, err := MarshalKey(&keystore.Key{ID: "a", Hash: k.Hash, Whitelist: whitelist(entries...)})
	if err != nil || !strings.Contains(string(got), "    ip_whitelist:\n      - 10.0.0.0\n      - 10.0.0.1\n") || !strings.HasSuffix(string(got), "      - 10.0.0.19\n    enabled: false\n") {
		t.Errorf("error %v, got\n%s", err, got)
	}
	if _, err := MarshalKey(&keystore.Key{ID: "a"}); err == nil {
		t.Error("a key without a hash was written")
	}
}

// BenchmarkPut measures adding 100,000 keys, and then changing one of them.
func BenchmarkPut(b *testing.B) {
	keys := make([]*keystore.Key, 100_000)
	for i := range keys {
		keys[i] = storetest.NewKey(fmt.Sprintf("key_%06d", i), "10.0.0.0/8", "192.0.2.7", "2001:db8::/32")
	}
	for b.Loop() {
		e := NewEditor(filepath.Join(b.TempDir(), "keys.yaml"))
		start := time.Now()
		if err := e.Put(b.Context(), keys); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/put")
		start = time.Now()
		if err := e.Update(b.Context(), "key_050000", func(k *keystore.Key) error { k.Enabled = false; return nil }); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(start).Seconds(), "s/update")
	}
}

// FuzzEdit: in any file, an edit makes exactly its change, or is refused.
func FuzzEdit(f *testing.F) {
	f.Add(commented, uint8(0))
	f.Add("keys:\n- ? id\n  : a\n  hash: "+hashA+"\n  name: &x >-\n    folded\n\n    text\n  external_id: *x\n", uint8(1))
	f.Add("keys:\n  - &a {id: a, hash: "+hashA+"}\n  - id: b\n    hash: "+hashB+"\n    ip_whitelist: # these\n    - 10.0.0.1\n    -\n      192.0.2.1\n", uint8(2))
	f.Add("keys:\r\n  -   id: a\r\n      hash: "+hashA+"\u2028\r\n", uint8(3))
	f.Fuzz(func(t *testing.T, text string, what uint8) {
		f, err := parseForEdit("k", strings.NewReader(text))
		must(t, err)
		c, err := newChanges([]parsedFile{f}, "k")
		if err != nil {
			return
		}
		n := len(c.before) + 1
		for id, before := range c.before {
			k := before.Clone()
			switch (int(what) + len(id)) % 6 {
			case 0:
				k.Name, k.ExternalID = "new", ""
			case 1:
				k.Enabled = !k.Enabled
			case 2:
				k.Whitelist = keystore.NewWhitelist(slices.Concat(before.Whitelist.Prefixes(), whitelist("2001:db8::/32").Prefixes()))
			case 3:
				k.Whitelist, k.Meta = keystore.Anywhere(), nil
			case 4:
				c.after[id] = nil
				n--
				continue
			}
			c.put(k)
		}
		c.put(&keystore.Key{ID: "fresh", Hash: storetest.SecretOf("fresh").Hash(), Whitelist: keystore.Anywhere()})
		if c.before["fresh"] != nil {
			return
		}
		changed, err := c.apply()
		if err != nil {
			return
		}
		set, err := parseText(string(changed[0].data))
		if err != nil || set.len() != n {
			t.Fatalf("error %v, %d keys of %d in\n%s", err, set.len(), n, changed[0].data)
		}
		for _, k := range set.all() {
			want, changed := c.after[k.ID]
			if !changed {
				want = c.before[k.ID]
			}
			if !sameKey(k, want) {
				t.Errorf("got %+v, want %+v", k, want)
			}
		}
	})
}
