package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestConflicts(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:9191", "127.0.0.1:9191", true},
		{"127.0.0.1:9191", "127.0.0.1:9192", false},
		{"127.0.0.1:9191", "127.0.0.2:9191", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{":9191", "127.0.0.1:9191", true},
		{"127.0.0.1:9191", "0.0.0.0:9191", true},
		{"[::1]:9191", "[::]:9191", true},
		{"localhost:9191", "LOCALHOST:9191", true},
		{"localhost:9191", "127.0.0.1:9191", true},
		{"localhost:9191", "[::1]:9191", true},
		{"localhost:9191", "10.0.0.1:9191", false},
		{"unix:/run/a.sock", "unix:/run/a.sock", true},
		{"unix:/run/a.sock", "unix:/run//a.sock", true},
		{"unix:/run/a.sock", "unix:/run/b.sock", false},
		{"unix:/run/a.sock", "127.0.0.1:9191", false},
	} {
		a, errA := ParseAddress(c.a)
		b, errB := ParseAddress(c.b)
		if errA != nil || errB != nil || a.Conflicts(b) != c.want || b.Conflicts(a) != c.want {
			t.Errorf("%s and %s conflict: %t and %t, want %t (errors: %v, %v)", c.a, c.b, a.Conflicts(b), b.Conflicts(a), c.want, errA, errB)
		}
	}
	if (Address{}).Conflicts(Address{}) {
		t.Error("two listeners that are none conflict")
	}
}

func TestFlagsConflict(t *testing.T) {
	for _, c := range []struct {
		o    Overrides
		want string
	}{
		{Overrides{Keys: "keys.yaml", Listen: "127.0.0.1:9192"}, "--listen: listen and admin.listen are the same address"},
		{Overrides{Keys: "keys.yaml", Admin: "127.0.0.1:9191"}, "--admin: listen and admin.listen are the same address"},
		{Overrides{Keys: "keys.yaml", Listen: "127.0.0.1:9192", Admin: "127.0.0.1:9191"}, ""},
	} {
		_, err := Load("", c.o)
		if got := fmt.Sprint(err); !strings.HasPrefix(got, c.want) || c.want == "" && err != nil {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}
