package permission_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"extauthz/permission"
)

func holder(names ...string) func(string) bool {
	return func(p string) bool { return slices.Contains(names, p) }
}

func TestQueryHolds(t *testing.T) {
	const worked = "documents.read AND (documents.write OR admin)"
	cases := []struct {
		query string
		has   string // space between names
		want  bool
	}{
		{"admin", "admin", true},
		{"admin", "", false},
		{"admin", "Admin", false},
		{worked, "documents.read documents.write", true},
		{worked, "documents.read admin", true},
		{worked, "documents.read", false},
		{worked, "documents.write admin", false},
		{"a OR b AND c", "a", true},
		{"a OR b AND c", "b", false},
		{"a OR b AND c", "b c", true},
		{"b AND c OR a", "a", true},
		{"b AND c OR a", "c", false},
		{"(a OR b) AND c", "a", false},
		{"(a OR b) AND c", "a c", true},
		{"a and b oR c AnD d", "c d", true},
		{"a and b oR c AnD d", "a d", false},
		{"a\tAND\r\n b", "a b", true},
		{"a AND(b)OR c", "c", true},
		{"((((a))))", "a", true},
		// Names that look like something else.
		{"*", "documents.read", false},
		{"*", "*", true},
		{"documents.*", "documents.read", false},
		{"documents.*", "documents.*", true},
		{"android", "android", true},
		{"orders:read/all-1_x", "orders:read/all-1_x", true},
		{"-", "-", true},
		{"not", "not", true},
	}
	for _, c := range cases {
		q, err := permission.Parse(c.query)
		if err != nil {
			t.Errorf("Parse(%q): %v", c.query, err)
			continue
		}
		if got := q.Holds(holder(strings.Fields(c.has)...)); got != c.want {
			t.Errorf("%q of a key with [%s] = %t, want %t", c.query, c.has, got, c.want)
		}
	}
}

func TestZeroQueryHoldsForNoOne(t *testing.T) {
	anything := func(string) bool { return true }
	if new(permission.Query).Holds(anything) || (*permission.Query)(nil).Holds(anything) {
		t.Error("a query that was never parsed holds")
	}
}

func TestQueryString(t *testing.T) {
	for query, want := range map[string]string{
		"a":                         "a",
		" ( a ) ":                   "a",
		"a or (b or c)":             "a OR b OR c",
		"(a and b) and c":           "a AND b AND c",
		"a AND (b AND (c OR d))":    "a AND b AND (c OR d)",
		"(a OR b) and (c Or (d))":   "(a OR b) AND (c OR d)",
		"(a AND b) OR (c AND d)":    "a AND b OR c AND d",
		"((a OR b)) OR ((c AND d))": "a OR b OR c AND d",
	} {
		q, err := permission.Parse(query)
		if err != nil {
			t.Errorf("Parse(%q): %v", query, err)
		} else if got := q.String(); got != want {
			t.Errorf("Parse(%q) prints as %q, want %q", query, got, want)
		}
	}
}

func TestMissing(t *testing.T) {
	q, err := permission.Parse("a AND (b OR c OR b) AND a")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := q.Missing(holder("c")), []string{"a", "b"}; !slices.Equal(got, want) {
		t.Errorf("Missing = %v, want %v", got, want)
	}
}

func TestParseRefuses(t *testing.T) {
	cases := []struct {
		query  string
		column int
		says   string
	}{
		{"", 1, "empty"},
		{" \t\n", 1, "empty"},
		{"()", 1, "empty parentheses"},
		{"a AND ()", 7, "empty parentheses"},
		{"(a", 1, "unmatched opening"},
		{"a AND (b OR (c)", 7, "unmatched opening"},
		{"a)", 2, "unmatched closing"},
		{")", 1, "unmatched closing"},
		{"a AND b) OR (c", 8, "unmatched closing"},
		{"AND", 1, "AND has nothing before it"},
		{"or a", 1, "OR has nothing before it"},
		{"a AND", 3, "AND has nothing after it"},
		{"a AND OR b", 7, "OR has nothing before it"},
		{"(a OR) AND b", 4, "OR has nothing after it"},
		{"(AND a)", 2, "AND has nothing before it"},
		{"a b", 3, "write AND or OR"},
		{"a (b)", 3, "write AND or OR"},
		{"(a) b", 5, "write AND or OR"},
		{"(a)(b)", 4, "write AND or OR"},
		{"NOT a", 5, "there is no NOT"},
		{"a NOT b", 3, "there is no NOT"},
		{"a AND !b", 7, "there is no NOT"},
		{"a && b", 3, "write AND"},
		{"a || b", 3, "write OR"},
		{"a, b", 2, "write AND or OR"},
		{`"a"`, 1, "without quotes"},
		{"a AND é", 7, "letters, digits"},
		{"é", 1, "letters, digits"},
		{"a\x00", 2, "letters, digits"},
		{"a AND \xff", 7, "not UTF-8"},
		{"a = b", 3, "letters, digits"},
		{strings.Repeat("a", 1001), 1001, "at most 1000"},
		{strings.Repeat("a or ", 100) + "a", 501, "more than 100 names"},
	}
	for _, c := range cases {
		q, err := permission.Parse(c.query)
		syntax, ok := errors.AsType[*permission.SyntaxError](err)
		if !ok || q != nil {
			t.Errorf("Parse(%.40q) = %v, %v; want a syntax error", c.query, q, err)
			continue
		}
		if syntax.Column != c.column || !strings.Contains(syntax.Message, c.says) {
			t.Errorf("Parse(%.40q) says %q; want column %d: …%s…", c.query, err, c.column, c.says)
		}
	}
}

func TestParseTakesWhatIsJustInBounds(t *testing.T) {
	for _, query := range []string{
		strings.Repeat("a", permission.MaxLength),
		strings.Repeat("a or ", permission.MaxTerms-1) + "a",
		strings.Repeat("a or(", permission.MaxTerms-1) + "a" + strings.Repeat(")", permission.MaxTerms-1),
		strings.Repeat("(", 499) + "a" + strings.Repeat(")", 499),
	} {
		q, err := permission.Parse(query)
		if err != nil {
			t.Errorf("Parse(%.20q…): %v", query, err)
		} else if !q.Holds(func(string) bool { return true }) {
			t.Errorf("%.20q… does not hold of a key with every permission", query)
		}
	}
}

func TestHoldsAllocatesNothing(t *testing.T) {
	q, err := permission.Parse("documents.read AND (documents.write OR admin)")
	if err != nil {
		t.Fatal(err)
	}
	roles := permission.Roles{"editor": {"documents.read", "documents.write"}}
	held := []string{"other"}
	if n := testing.AllocsPerRun(100, func() {
		if !q.Holds(func(p string) bool { return roles.Grant(p, held, []string{"editor"}) }) {
			t.Fatal("does not hold")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRoles(t *testing.T) {
	roles := permission.Roles{"editor": {"documents.write"}, "empty": nil}
	for _, c := range []struct {
		permission  string
		held, roles []string
		want        bool
	}{
		{"documents.write", []string{"documents.write"}, nil, true},
		{"documents.write", nil, []string{"editor"}, true},
		{"documents.write", nil, []string{"undefined", "editor"}, true},
		{"documents.write", nil, []string{"undefined"}, false},
		{"documents.write", nil, []string{"empty"}, false},
		{"editor", nil, []string{"editor"}, false}, // a role's name is not a permission
	} {
		if got := roles.Grant(c.permission, c.held, c.roles); got != c.want {
			t.Errorf("Grant(%q, %v, %v) = %t, want %t", c.permission, c.held, c.roles, got, c.want)
		}
	}
	if permission.Roles(nil).Grant("a", nil, []string{"editor"}) {
		t.Error("a role of no roles grants something")
	}
	if got := roles.Unknown([]string{"editor", "gone", "empty"}); !slices.Equal(got, []string{"gone"}) {
		t.Errorf("Unknown = %v, want [gone]", got)
	}
}

// naive evaluates a query by recursive descent over its words, without compiling it. It is the oracle of
// FuzzParse. It returns false, false if the query does not parse.
func naive(words []string, has func(string) bool) (rest []string, value, ok bool) {
	isName := func(w string) bool {
		return w != "(" && w != ")" && !strings.EqualFold(w, "and") && !strings.EqualFold(w, "or")
	}
	var query func([]string) ([]string, bool, bool)
	one := func(w []string) ([]string, bool, bool) {
		switch {
		case len(w) > 0 && w[0] == "(":
			rest, v, ok := query(w[1:])
			if !ok || len(rest) == 0 || rest[0] != ")" {
				return nil, false, false
			}
			return rest[1:], v, true
		case len(w) > 0 && isName(w[0]):
			return w[1:], has(w[0]), true
		}
		return nil, false, false
	}
	all := func(w []string) ([]string, bool, bool) {
		w, v, ok := one(w)
		for ok && len(w) > 0 && strings.EqualFold(w[0], "and") {
			var next bool
			w, next, ok = one(w[1:])
			v = v && next
		}
		return w, v, ok
	}
	query = func(w []string) ([]string, bool, bool) {
		w, v, ok := all(w)
		for ok && len(w) > 0 && strings.EqualFold(w[0], "or") {
			var next bool
			w, next, ok = all(w[1:])
			v = v || next
		}
		return w, v, ok
	}
	return query(words)
}

func FuzzParse(f *testing.F) {
	for _, q := range []string{
		"a", "a AND (b OR c)", "a or b and c", "((a)", "a)b(", "a  and\tb", "(a or b) and (c or d)",
		"documents.read:*/x-1_2", "a AND", "NOT a", "é", "\xff", "a&b",
	} {
		f.Add(q, uint16(0b1010))
	}
	f.Fuzz(func(t *testing.T, text string, held uint16) {
		// Whether a name is held depends only on the name and on held.
		has := func(name string) bool { return held>>(len(name)*7+int(name[0]))%16&1 != 0 || held>>(name[0]%16)&1 != 0 }

		spaced := strings.NewReplacer("(", " ( ", ")", " ) ", "\t", " ", "\n", " ", "\r", " ").Replace(text)
		words := strings.FieldsFunc(spaced, func(r rune) bool { return r == ' ' })
		legal := !strings.ContainsFunc(text, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:*/() \t\r\n", r)
		})
		rest, want, ok := naive(words, has)
		ok = ok && len(rest) == 0 && legal

		q, err := permission.Parse(text)
		tooMuch := len(text) > permission.MaxLength || len(words) > permission.MaxTerms
		if (err == nil) != ok && (err == nil || !tooMuch) {
			t.Fatalf("Parse(%q): error %v, the oracle says %t", text, err, ok)
		}
		if err != nil {
			if syntax, ok := errors.AsType[*permission.SyntaxError](err); !ok || syntax.Column < 1 || syntax.Column > len(text)+1 {
				t.Fatalf("Parse(%q): error %v", text, err)
			}
			return
		}
		if got := q.Holds(has); got != want {
			t.Fatalf("%q holds: %t, the oracle says %t", text, got, want)
		}
		if len(q.String()) > permission.MaxLength {
			return
		}
		again, err := permission.Parse(q.String())
		if err != nil || again.String() != q.String() || again.Holds(has) != want {
			t.Fatalf("%q prints as %q, which reads as %v, %v", text, q, again, err)
		}
	})
}

func BenchmarkHolds(b *testing.B) {
	for _, terms := range []int{1, 3, permission.MaxTerms} {
		b.Run(fmt.Sprint(terms), func(b *testing.B) {
			q, err := permission.Parse(strings.Repeat("a AND ", terms-1) + "a")
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				q.Holds(func(string) bool { return true })
			}
		})
	}
}
