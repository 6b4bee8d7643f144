package dashboard

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// TestContrast computes the contrast of every pair of adjacent colours in the style sheet, light and dark:
// text needs 4.5, and the edges of fields, the focus ring and bars need 3 (Web Content Accessibility
// Guidelines 2.2, 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	css, err := os.ReadFile("static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	colours := map[string][2]string{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);`).FindAllStringSubmatch(string(css), -1) {
		colours[m[1]] = [2]string{m[2], m[3]}
	}
	if n := len(regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b`).FindAllString(string(css), -1)); n != 2*len(colours) {
		t.Errorf("%d colours, and %d in variables: every colour is one of a pair in a variable", n, 2*len(colours))
	}
	surfaces := []string{"bg", "soft", "field"}
	type pair struct {
		front, back string
		least       float64
	}
	pairs := []pair{{"on-accent", "accent", 4.5}}
	for _, back := range surfaces {
		for _, front := range []string{"fg", "muted", "accent", "good", "warn", "bad"} {
			pairs = append(pairs, pair{front, back, 4.5})
		}
		for _, front := range []string{"allowed", "refused"} {
			pairs = append(pairs, pair{front, back, 3})
		}
	}
	for _, p := range pairs {
		for i, scheme := range []string{"light", "dark"} {
			front, back := colours[p.front][i], colours[p.back][i]
			if front == "" || back == "" {
				t.Fatalf("no colour %s or %s", p.front, p.back)
			}
			if got := contrast(t, front, back); got < p.least {
				t.Errorf("%s: %s %s on %s %s has the contrast %.2f, want %.1f", scheme, p.front, front, p.back, back, got, p.least)
			}
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		v := float64(n) / 255
		if v <= 0.04045 {
			v /= 12.92
		} else {
			v = math.Pow((v+0.055)/1.055, 2.4)
		}
		sum += weight * v
	}
	return sum
}
