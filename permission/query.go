// Package permission says what a route asks of a key, "documents.read AND (documents.write OR
// admin)", and whether a key has it.
package permission

import (
	"slices"
	"strings"
)

// What a query may measure at most. They bound the work of one decision; nesting is bounded
// by them too.
const (
	MaxLength = 1000 // characters
	MaxTerms  = 100  // names, counting each as often as it stands
)

// A Query is a compiled question to a key's permissions. It is immutable and safe for
// concurrent use. The zero value, and nil, hold for no one.
type Query struct {
	program []step // in postfix order
	text    string
}

// A step pushes whether a name is held, or joins the two topmost results.
type step struct {
	op   operator
	name string // of a permission, where op is name
}

type operator byte

const (
	name operator = iota
	paren
	or  // binds looser …
	and // … than this
)

var spelling = [...]string{paren: "(", or: "OR", and: "AND"}

// Holds reports whether the query is true of a key for which has says which permissions it
// holds. It allocates nothing.
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

// Names returns the names in the query, each once, in their order.
func (q *Query) Names() []string { return q.Missing(func(string) bool { return false }) }

// Missing returns the names in the query for which has says no, each once, as they stand.
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

// String returns the query in its canonical form: operators in capitals, single spaces, and
// no parentheses but those that are needed. Parsing it gives the same query, unless the spaces
// take it past MaxLength.
func (q *Query) String() string { return q.text }

// format writes a program out again.
func format(program []step) string {
	type part struct {
		text strings.Builder
		op   operator // the loosest one outside parentheses
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
