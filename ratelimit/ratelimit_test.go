package ratelimit_test

import (
	"strings"
	"testing"
	"time"

	"extauthz/ratelimit"
)

func TestParseCosts(t *testing.T) {
	for text, want := range map[string]string{
		"exports=1, requests=5":   "exports=1, requests=5",
		"exports":                 "exports=1",
		" a.b_c-d:e = 0 ,\n x=10": "a.b_c-d:e=0, x=10",
		"big=1000000000":          "big=1000000000",
	} {
		costs, err := ratelimit.ParseCosts(text)
		if err != nil || costs.String() != want {
			t.Errorf("ParseCosts(%q) = %q, %v; want %q", text, costs, err, want)
		}
	}
	costs, err := ratelimit.ParseCosts("exports=0, requests=5")
	if err != nil {
		t.Fatal(err)
	}
	if cost, named := costs.Of("exports"); cost != 0 || !named {
		t.Errorf("exports cost %d, %t", cost, named)
	}
	if cost, named := costs.Of("other"); cost != 0 || named {
		t.Errorf("other costs %d, %t", cost, named)
	}
}

func TestParseCostsRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "column 1: the name of a limit is missing",
		"a=1,":                    "column 5: the name of a limit is missing",
		"a=1,, b=2":               "column 5: the name of a limit is missing",
		"=1":                      "column 1: the name of a limit is missing",
		"a=1,  é=2":               "column 7: the name of a limit",
		"a b=1":                   "column 1: the name of a limit",
		"a=":                      "write one such as a=1",
		"a=-1":                    "from 0 to 1000000000",
		"a=+1":                    "from 0 to 1000000000",
		"a=01":                    "from 0 to 1000000000",
		"a=1.5":                   "from 0 to 1000000000",
		"a=1=2":                   "from 0 to 1000000000",
		"a=1000000001":            "from 0 to 1000000000",
		"a=99999999999999999999":  "from 0 to 1000000000",
		"a=1, b=1, a=2":           "column 11: \"a\" is repeated",
		strings.Repeat("a", 1001): "column 1001: the costs are longer",
	} {
		costs, err := ratelimit.ParseCosts(text)
		if err == nil || costs != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseCosts(%.40q) = %v, %v; want %q", text, costs, err, want)
		}
	}
}

func FuzzParseCosts(f *testing.F) {
	for _, text := range []string{"exports=1, requests=5", "a", "a=0,b", "a=1,a=2", "é=1", ",", "a = 1\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		costs, err := ratelimit.ParseCosts(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "column ") {
				t.Fatalf("ParseCosts(%q): %v", text, err)
			}
			return
		}
		for _, c := range costs {
			if got, ok := costs.Of(c.Name); !ok || got != c.Cost || c.Cost < 0 || c.Cost > ratelimit.MaxCost {
				t.Fatalf("%q costs %d, %t, of %q", c.Name, got, ok, text)
			}
		}
		if again, err := ratelimit.ParseCosts(costs.String()); len(costs.String()) <= 1000 && (err != nil || again.String() != costs.String()) {
			t.Fatalf("%q prints as %q, which reads as %q, %v", text, costs, again, err)
		}
	})
}

func status(name string, limit, remaining int64, next, reset, wait time.Duration) ratelimit.Status {
	return ratelimit.Status{
		Charge:    ratelimit.Charge{Name: name, Limit: limit, Duration: time.Minute, Cost: 1},
		Remaining: remaining, Next: next, Reset: reset, Wait: wait,
	}
}

func TestTightest(t *testing.T) {
	a := status("a", 100, 40, time.Second, time.Minute, 0)
	b := status("b", 50, 41, time.Second, time.Minute, 0)
	longer := status("longer", 50, 40, time.Second, time.Hour, 0)
	full := status("full", 50, 0, time.Second, time.Minute, time.Second)
	fuller := status("fuller", 50, 1, time.Second, time.Minute, 2*time.Second)
	for _, c := range []struct {
		want   string
		limits []ratelimit.Status
	}{
		{"", nil},
		{"a", []ratelimit.Status{a}},
		{"a", []ratelimit.Status{b, a}},
		{"longer", []ratelimit.Status{a, b, longer}},
		{"full", []ratelimit.Status{a, full, b}},
		{"fuller", []ratelimit.Status{full, a, fuller}},
	} {
		s, ok := ratelimit.Result{Limits: c.limits}.Tightest()
		if s.Name != c.want || ok != (c.want != "") {
			t.Errorf("the tightest is %q, %t; want %q", s.Name, ok, c.want)
		}
	}
}

func TestHeaders(t *testing.T) {
	allowed := ratelimit.Result{Limits: []ratelimit.Status{
		status("requests", 100, 99, 60*time.Second, 60*time.Second+time.Microsecond, 0),
		status("exports", 5, 5, 0, 0, 0),
	}}
	refused := ratelimit.Result{Limits: []ratelimit.Status{
		status("requests", 100, 99, time.Second, 59*time.Second, 0),
		status("exports", 5, 0, time.Microsecond, 40*time.Second, time.Microsecond),
	}}
	for _, c := range []struct {
		style  ratelimit.HeaderStyle
		result ratelimit.Result
		want   string
	}{
		{ratelimit.XRateLimit, ratelimit.Result{}, ""},
		{ratelimit.XRateLimit, allowed, "x-ratelimit-limit: 5\nx-ratelimit-remaining: 5\nx-ratelimit-reset: 0\n"},
		{ratelimit.XRateLimit, refused, "x-ratelimit-limit: 5\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 40\nretry-after: 1\n"},
		{ratelimit.XRateLimit, ratelimit.Result{Limits: allowed.Limits[:1]}, "x-ratelimit-limit: 100\nx-ratelimit-remaining: 99\nx-ratelimit-reset: 61\n"},
		{ratelimit.IETF, ratelimit.Result{}, ""},
		{ratelimit.IETF, allowed, "ratelimit-policy: \"requests\";q=100;w=60, \"exports\";q=5;w=60\nratelimit: \"requests\";r=99;t=60, \"exports\";r=5\n"},
		{ratelimit.IETF, refused, "ratelimit-policy: \"requests\";q=100;w=60, \"exports\";q=5;w=60\nratelimit: \"requests\";r=99;t=1, \"exports\";r=0;t=1\nretry-after: 1\n"},
	} {
		var got strings.Builder
		for _, h := range c.style.Headers(c.result) {
			got.WriteString(h.Name + ": " + h.Value + "\n")
		}
		if got.String() != c.want {
			t.Errorf("%s:\n%swant:\n%s", c.style, got.String(), c.want)
		}
		if style, ok := ratelimit.ParseHeaderStyle(c.style.String()); !ok || style != c.style {
			t.Errorf("%s reads as %s, %t", c.style, style, ok)
		}
	}
	if _, ok := ratelimit.ParseHeaderStyle("none"); ok {
		t.Error("there is a style none")
	}
}
