package yamlfile_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"extauthz/keystore"
	"extauthz/keystore/yamlfile"
)

// keyFile returns the text of a key file of n keys with ids in order.
func keyFile(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("# all keys\nkeys:\n")
	for i := range n {
		id := fmt.Sprintf("key_%06d", i)
		text, err := yamlfile.MarshalKey(&keystore.Key{ID: id, Hash: keystore.Secret(id).Hash(), Enabled: true, Whitelist: keystore.Anywhere()})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(text)
	}
	return b.String()
}

func readParts(text string) (ids []string, parts int, err error) {
	end := 0
	for p, partErr := range yamlfile.Parts("keys.yaml", []byte(text)) {
		if partErr != nil {
			return ids, parts, partErr
		}
		parts++
		if p.End <= end || p.End > len(text) {
			return nil, 0, fmt.Errorf("part %d ends at %d, after one that ended at %d", parts, p.End, end)
		}
		end = p.End
		for _, k := range p.Keys {
			ids = append(ids, k.ID)
		}
	}
	if end != len(text) {
		return nil, 0, fmt.Errorf("the last part ends at %d of %d", end, len(text))
	}
	return ids, parts, nil
}

func TestParts(t *testing.T) {
	const n = 5000
	text := keyFile(t, n)
	ids, parts, err := readParts(text)
	if err != nil || len(ids) != n || !slices.IsSorted(ids) || parts < 10 {
		t.Fatalf("%d keys in %d parts, %v", len(ids), parts, err)
	}
	for name, s := range map[string]string{
		"small":         keyFile(t, 3),
		"empty":         "keys: []\n",
		"text after it": text + "# the end\n",
		"two lines":     strings.Replace(text, "  - id: key_004000\n", "  - id: key_004000\n    name: \"a\n  - b\"\n", 1),
	} {
		ids, _, err := readParts(s)
		if err != nil || !slices.IsSorted(ids) || len(slices.Compact(ids)) != strings.Count(s, "- id:") {
			t.Errorf("%s: %d keys, %v", name, len(ids), err)
		}
	}
}

// What is wrong is told with its place, and what stands before it was read.
func TestPartsWrong(t *testing.T) {
	text := keyFile(t, 5000)
	line := 3 + 2*4000
	for name, c := range map[string]struct{ old, with, want string }{
		"an unknown field":  {"  - id: key_004000\n", "  - id: key_004000\n    nam: a\n", fmt.Sprintf("keys.yaml:%d:5: unknown field \"nam\"", line+1)},
		"an id twice":       {"key_004000\n", "key_000007\n", fmt.Sprintf("keys.yaml:%d:9: id \"key_000007\" is that of the key on line %d too", line, 3+2*7)},
		"a hash twice":      {keystore.Secret("key_004000").Hash().String(), keystore.Secret("key_000007").Hash().String(), "this hash is that of the key on line 17 too"},
		"not YAML":          {"  - id: key_004000\n", "  - id: \"key_004000\n", "keys.yaml:"},
		"another field":     {"# all keys\n", "kies: []\n", "keys.yaml:1:1: unknown field \"kies\""},
		"a second document": {"  - id: key_004000\n", "---\n", "keys.yaml:"},
	} {
		ids, _, err := readParts(strings.Replace(text, c.old, c.with, 1))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %s", name, err, c.want)
		}
		if len(ids) > 4000 || slices.Contains(ids, "key_004000") {
			t.Errorf("%s: %d keys were read before it", name, len(ids))
		}
	}
}
