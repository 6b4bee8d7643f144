// Package permission evaluates the permissions that a route requires of a key, such as
// "documents.read AND (documents.write OR admin)".
package permission

import (
	"slices"
	"strings"
)

// Limits of a query. They bound the work of a decision, and the nesting.
const (
	MaxLength = 1000 // characters
	MaxTerms  = 100  // names, including repeated ones
)

// A Query is a compiled boolean expression over permissions. It is immutable and safe for
// concurrent use. The zero value and nil hold for no key.
type Query struct {
	program []step // in postfix order
	text    string
}

// A step pushes whether the key has a permission, or combines the two topmost results.
type step struct {
	op   operator
	name string // of a permission, where op is name
}

type operator byte

const (
	name operator = iota
	paren
	or  // binds less tightly …
	and // … than this
)

var spelling = [...]string{paren: "(", or: "OR", and: "AND"}

// Holds reports whether the query is true for a key whose permissions are those for which has
// returns true. It does not allocate.
func (q *Query) Holds(has func(permission string) bool) bool {
	if q == nil || len(q.program) == 0 {
		return false
	}
	var room [MaxTerms]bool
	stack := room[:0]
	for _, s := range q.program {
		n := len(stack)
		switch s.op {
		case and:
			stack = append(stack[:n-2], stack[n-2] && stack[n-1])
		case or:
			stack = append(stack[:n-2], stack[n-2] || stack[n-1])
		default:
			stack = append(stack, has(s.name))
		}
	}
	return stack[0]
}

// Names returns the names in the query, without repetitions, in their order.
func (q *Query) Names() []string { return q.Missing(func(string) bool { return false }) }

// Missing returns the names in the query for which has returns false, without repetitions.
func (q *Query) Missing(has func(permission string) bool) []string {
	if q == nil {
		return nil
	}
	var missing []string
	for _, s := range q.program {
		if s.op == name && !slices.Contains(missing, s.name) && !has(s.name) {
			missing = append(missing, s.name)
		}
	}
	return missing
}

// String returns the query in canonical form: upper-case operators, single spaces, and only the
// parentheses that are needed. Parsing it gives the same query, unless the spaces make it longer
// than MaxLength.
func (q *Query) String() string { return q.text }

// format returns the canonical form of a program.
func format(program []step) string {
	type part struct {
		text strings.Builder
		op   operator // the outermost one outside parentheses
	}
	var stack []*part
	for _, s := range program {
		if s.op == name {
			p := new(part)
			p.text.WriteString(s.name)
			stack = append(stack, p)
			continue
		}
		left, right := stack[len(stack)-2], stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		joined := &part{op: s.op}
		for i, p := range []*part{left, right} {
			if i > 0 {
				joined.text.WriteString(" " + spelling[s.op] + " ")
			}
			if s.op == and && p.op == or {
				joined.text.WriteString("(" + p.text.String() + ")")
			} else {
				joined.text.WriteString(p.text.String())
			}
		}
		stack[len(stack)-1] = joined
	}
	return stack[0].text.String()
}
