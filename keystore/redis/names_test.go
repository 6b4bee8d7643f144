package redis

import "testing"

func TestPrefix(t *testing.T) {
	for prefix, want := range map[string]string{"": "{extauthz}:ids", "a:b:": "{a:b}:ids", "x{t}y:": "x{t}y:ids"} {
		if n, err := newNames(prefix); err != nil || n.ids != want {
			t.Errorf("%q: %q, %v, want %q", prefix, n.ids, err, want)
		}
	}
	for _, prefix := range []string{":", "a b", "{", "{}:", "a}"} {
		if _, err := newNames(prefix); err == nil {
			t.Errorf("%q: accepted", prefix)
		}
	}
}
