package config

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"extauthz/authz"
	"extauthz/check"
	"extauthz/ratelimit/redis"
)

// A field is one row of docs/configuration.md.
type field struct{ path, defaultCell string }

// reference returns the rows and the YAML blocks of docs/configuration.md.
func reference(t *testing.T) (rows []field, blocks []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\| ([^|]+) \\| [^|]+ \\|$").FindAllStringSubmatch(string(text), -1) {
		rows = append(rows, field{row[1], row[2]})
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, block[1])
	}
	if n := strings.Count(string(text), "\n| `"); n != len(rows) {
		t.Fatalf("%d of %d rows have a field, a type, a default and a meaning", len(rows), n)
	}
	return rows, blocks
}

// Names in the file that differ from the struct's in snake_case.
var otherNames = map[string]string{
	"ExternalIDs":   "external_ids",
	"RefuseOnError": "on_error",
	"OnDemand":      "auto_apply",
}

var (
	wordEnd    = regexp.MustCompile(`([a-z0-9])([A-Z])`)
	acronymEnd = regexp.MustCompile(`([A-Z])([A-Z][a-z])`)
)

func snakeCase(name string) string {
	if other, ok := otherNames[name]; ok {
		return other
	}
	name = acronymEnd.ReplaceAllString(wordEnd.ReplaceAllString(name, "${1}_$2"), "${1}_$2")
	return strings.ToLower(name)
}

// fields appends the paths of the fields of a type, which is at path.
func fields(all []string, t reflect.Type, path string) []string {
	switch t {
	case reflect.TypeFor[Address](), reflect.TypeFor[netip.Prefix]():
		return append(all, path)
	case reflect.TypeFor[[]check.KeySource]():
		all = append(all, path, path+"[].scheme", path+"[].prefix")
		for name := range places {
			all = append(all, path+"[]."+name)
		}
		return all
	case reflect.TypeFor[[]netip.Prefix]():
		return append(all, path, path+"[].file")
	case reflect.TypeFor[map[authz.Code]int]():
		return append(all, path+".CODE")
	}
	switch t.Kind() {
	case reflect.Pointer:
		return fields(all, t.Elem(), path)
	case reflect.Map:
		name := ".NAME"
		if t.Elem() == reflect.TypeFor[ExternalID]() {
			name = ".ID"
		}
		return fields(all, t.Elem(), path+name)
	case reflect.Slice:
		if all = append(all, path); t.Elem().Kind() == reflect.Struct && t.Elem() != reflect.TypeFor[netip.Prefix]() {
			all = fields(all, t.Elem(), path+"[]")
		}
		return all
	case reflect.Struct:
		for f := range t.Fields() {
			if t == reflect.TypeFor[Config]() && (f.Name == "Warnings" || f.Name == "Files") {
				continue // not a field of the file
			}
			all = fields(all, f.Type, strings.TrimPrefix(path+"."+snakeCase(f.Name), "."))
		}
		return all
	default:
		return append(all, path)
	}
}

// The reference has exactly one row for each field of the configuration.
func TestReferenceHasEveryField(t *testing.T) {
	rows, _ := reference(t)
	var documented []string
	for _, r := range rows {
		documented = append(documented, r.path)
	}
	want := fields(nil, reflect.TypeFor[Config](), "")
	for _, path := range want {
		if !slices.Contains(documented, path) {
			t.Errorf("docs/configuration.md has no row for %s", path)
		}
	}
	for i, path := range documented {
		if !slices.Contains(want, path) {
			t.Errorf("docs/configuration.md has a row for %s, which is no field", path)
		}
		if slices.Contains(documented[:i], path) {
			t.Errorf("docs/configuration.md has two rows for %s", path)
		}
	}
}

// load reads a configuration, with a store unless it names one.
func load(t *testing.T, text string) *Config {
	t.Helper()
	if !strings.Contains(text, "store: {yaml") && !strings.Contains(text, "store: {redis: {url") && !strings.Contains(text, "store:\n") {
		text += "\nstore: {yaml: {path: keys.yaml}}\n"
	}
	for _, variable := range regexp.MustCompile(`\$\{([A-Z_]+)\}`).FindAllStringSubmatch(text, -1) {
		t.Setenv(variable[1], "value")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "extauthz.yaml")
	for path, text := range map[string]string{file: text, filepath.Join(dir, "cdn-ranges.txt"): "192.0.2.0/24\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(file, Overrides{})
	if err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	c.Store.YAML = nil // its path differs from call to call
	c.Usage.Path = ""
	return c
}

// Each default in the reference is the value of the configuration without the field.
func TestReferenceDefaults(t *testing.T) {
	needs := map[string]string{ // what a field requires to be set too
		"ratelimit.timeout":           "store: redis, url: redis://redis",
		"tls.min_version":             "cert_file: /a.crt, key_file: /a.key",
		"client_address.xff_appended": "from: x_forwarded_for, trusted_hops: 1",
		"client_address.ports":        "from: x_forwarded_for, trusted_hops: 1",
		"store.redis.prefix":          "url: redis://redis",
	}
	rows, _ := reference(t)
	compared := 0
	for _, r := range rows {
		code := regexp.MustCompile("^`([^`]+)`$").FindStringSubmatch(r.defaultCell)
		if code == nil || strings.ContainsAny(r.path, "[ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			continue
		}
		value := code[1]
		if r.path == "ratelimit.prefix" { // the only default that is not in this package
			if value != redis.DefaultPrefix {
				t.Errorf("%s: %s is not the default, %s", r.path, value, redis.DefaultPrefix)
			}
			continue
		}
		compared++
		parts := strings.Split(r.path, ".")
		without, with := needs[r.path], parts[len(parts)-1]+": "+value
		if without != "" {
			with = without + ", " + with
		}
		for _, name := range slices.Backward(parts[:len(parts)-1]) {
			without, with = name+": {"+without+"}", name+": {"+with+"}"
		}
		got, want := load(t, with), Default()
		if needs[r.path] != "" {
			want = load(t, without)
		}
		got.Warnings, want.Warnings, got.Files, want.Files = nil, nil, nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s is not the default:\n%+v\nwant:\n%+v", r.path, value, got, want)
		}
	}
	if compared < 30 {
		t.Errorf("only %d defaults were compared", compared)
	}
}

// The reference's examples are valid, and show every field.
func TestReferenceExamples(t *testing.T) {
	rows, blocks := reference(t)
	shown := make(map[string]bool)
	for _, block := range blocks {
		load(t, block)
		var root yaml.Node
		if err := yaml.Unmarshal([]byte(block), &root); err != nil {
			t.Fatal(err)
		}
		show(shown, root.Content[0], "")
	}
	for _, r := range rows {
		if !shown[r.path] {
			t.Errorf("no example in docs/configuration.md shows %s", r.path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(shown)) {
		if !slices.ContainsFunc(rows, func(r field) bool { return r.path == path || strings.HasPrefix(r.path, path+".") }) {
			t.Errorf("an example in docs/configuration.md shows %s, which has no row", path)
		}
	}
}

// show adds the paths of the fields in n, which is at path.
func show(shown map[string]bool, n *yaml.Node, path string) {
	if path != "" {
		shown[path] = true
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			name := n.Content[i].Value
			switch path {
			case "roles":
				name = "NAME"
			case "external_ids":
				name = "ID"
			case "statuses":
				name = "CODE"
			}
			show(shown, n.Content[i+1], strings.TrimPrefix(path+"."+name, "."))
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if item.Kind == yaml.MappingNode {
				show(shown, item, path+"[]")
			}
		}
	default:
	}
	delete(shown, path+"[]")
}
