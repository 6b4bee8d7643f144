package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Each field of the configuration either can be changed while a server runs, or needs a restart and keeps its
// value.
func TestUpdate(t *testing.T) {
	t.Setenv("EXTAUTHZ_TEST_DIR", "/run")
	t.Setenv("EXTAUTHZ_TEST_HOPS", "2")
	full, err := Load("testdata/full.yaml", Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	// Another configuration, that differs in one field of the struct at a time.
	compare := func(name string, set func(to *Config)) {
		t.Helper()
		is := Default()
		next := *is
		set(&next)
		if reflect.DeepEqual(is, &next) {
			t.Fatalf("%s: nothing differs", name)
		}
		updated, changed, restart := is.Update(&next)
		named := append(slices.Clone(changed), restart...)
		if len(named) == 0 || slices.ContainsFunc(named, func(n string) bool { return !strings.HasPrefix(n+".", name) && !strings.HasPrefix(name, n+".") }) {
			t.Errorf("%s: changed %q, restart %q", name, changed, restart)
		}
		if (len(changed) > 0) == reflect.DeepEqual(updated, is) {
			t.Errorf("%s: changed %q, and the result is %+v", name, changed, updated)
		}
	}
	from := reflect.ValueOf(*full)
	for i, f := range reflect.VisibleFields(from.Type()) {
		if f.Name == "Warnings" || f.Name == "Files" || f.Name == "Dashboard" || f.Name == "Audit" {
			continue
		}
		name := snakeCase(f.Name) + "."
		if f.Name == "TLS" || f.Name == "Admin" || f.Name == "Usage" {
			for j, g := range reflect.VisibleFields(f.Type) {
				if g.Name == "Listen" || !from.Field(i).Field(j).IsZero() {
					compare(name+snakeCase(g.Name)+".", func(to *Config) { reflect.ValueOf(to).Elem().Field(i).Field(j).Set(from.Field(i).Field(j)) })
				}
			}
			continue
		}
		compare(name, func(to *Config) { reflect.ValueOf(to).Elem().Field(i).Set(from.Field(i)) })
	}
	_, changed, restart := full.Update(full)
	if changed != nil || restart != nil {
		t.Errorf("nothing differs: %q, %q", changed, restart)
	}
}
