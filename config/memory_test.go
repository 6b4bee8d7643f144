package config

import "testing"

func TestParseMemoryLimit(t *testing.T) {
	for s, want := range map[string]MemoryLimit{
		"auto": AutoLimit, "none": NoLimit, "512MiB": 512 << 20, "2GiB": 2 << 30, "40000KiB": 40000 << 10, "32MiB": 32 << 20,
	} {
		if got, err := ParseMemoryLimit(s); err != nil || got != want {
			t.Errorf("%s is %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "512", "512MB", "512M", "-1GiB", "1.5GiB", "31MiB", "0GiB", "9999999999GiB", " 1GiB", "GiB", "Auto"} {
		if got, err := ParseMemoryLimit(s); err == nil {
			t.Errorf("%q is taken as %d", s, got)
		}
	}
}
