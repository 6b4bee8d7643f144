package permission

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A SyntaxError describes an error in a query and its position.
type SyntaxError struct {
	Column  int // starting at 1, in characters
	Message string
}

// Error returns the error as column N: message.
func (e *SyntaxError) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Message) }

// Parse compiles a query. Operators may be in either case, AND binds more tightly than OR, and
// white space only separates words:
//
//	query = all { "OR" all }
//	all   = one { "AND" one }
//	one   = name | "(" query ")"
//	name  = letters, digits and . _ - : * / ("*" is a plain character)
//
// There is no NOT. An operator is never a name. Every error is a [*SyntaxError].
func Parse(text string) (*Query, error) {
	if len(text) > MaxLength {
		return nil, &SyntaxError{MaxLength + 1, fmt.Sprintf("the query is %d characters long: write at most %d, or give the key a role or a permission for all of them", utf8.RuneCountInString(text), MaxLength)}
	}
	p := parser{text: text}
	for p.next() {
		if err := p.parseToken(); err != nil {
			return nil, err
		}
	}
	if p.err != nil {
		return nil, p.err
	}
	if err := p.end(); err != nil {
		return nil, err
	}
	return &Query{program: p.program, text: format(p.program)}, nil
}

// A parser converts infix to postfix with a stack of pending operators (Dijkstra's shunting
// yard), so that deep nesting needs no recursion.
type parser struct {
	text  string
	pos   int // the end of word
	start int // the start of word
	word  string
	err   error

	program []step
	terms   int
	pending []waiting
	operand bool // what was parsed last can be the left operand of an operator
}

type waiting struct {
	op    operator
	start int
}

// next reads the next token, a name, operator or parenthesis, into word, and reports whether
// there was one.
func (p *parser) next() bool {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	p.start = p.pos
	if p.pos == len(p.text) {
		return false
	}
	for p.pos < len(p.text) && isNameByte(p.text[p.pos]) {
		p.pos++
	}
	if p.pos == p.start {
		if c := p.text[p.pos]; c != '(' && c != ')' {
			p.err = p.unexpected()
			return false
		}
		p.pos++
	}
	p.word = p.text[p.start:p.pos]
	return true
}

func (p *parser) parseToken() error {
	op := operatorOf(p.word)
	switch {
	case p.word == ")":
		return p.close()
	case p.word == "(" && p.operand:
		return p.errorf(p.start, "opening parenthesis where an operator is expected: write AND or OR before it")
	case p.word == "(":
		p.pending = append(p.pending, waiting{paren, p.start})
	case op == name && p.operand:
		return p.errorf(p.start, "%s where an operator is expected: write AND or OR before it%s", quote(p.word), notHint(p.program, p.word))
	case op == name:
		if p.terms++; p.terms > MaxTerms {
			return p.errorf(p.start, "the query has more than %d names: give the key a role or a permission for all of them", MaxTerms)
		}
		p.program = append(p.program, step{name: p.word})
		p.operand = true
	case !p.operand:
		return p.errorf(p.start, "%s has nothing before it: write a permission there, such as documents.read", spelling[op])
	default:
		p.settle(op)
		p.pending = append(p.pending, waiting{op, p.start})
		p.operand = false
	}
	return nil
}

// settle emits the pending operators that bind at least as tightly as op.
func (p *parser) settle(op operator) {
	for n := len(p.pending); n > 0 && p.pending[n-1].op >= op && p.pending[n-1].op != paren; n-- {
		p.program = append(p.program, step{op: p.pending[n-1].op})
		p.pending = p.pending[:n-1]
	}
}

func (p *parser) close() error {
	if !p.operand {
		return p.missing(p.start)
	}
	p.settle(or)
	if len(p.pending) == 0 {
		return p.errorf(p.start, "unmatched closing parenthesis: write ( before it, or remove it")
	}
	p.pending = p.pending[:len(p.pending)-1]
	return nil
}

func (p *parser) end() error {
	if len(p.program) == 0 && len(p.pending) == 0 {
		return p.errorf(0, "the query is empty: write a permission such as documents.read, or omit the field to require none")
	}
	if !p.operand {
		return p.missing(len(p.text))
	}
	p.settle(or)
	if len(p.pending) > 0 {
		return p.errorf(p.pending[len(p.pending)-1].start, "unmatched opening parenthesis: write ) after it, or remove it")
	}
	return nil
}

// missing returns the error for a missing permission.
func (p *parser) missing(at int) error {
	last := p.pending
	if len(last) == 0 {
		return p.errorf(at, "unmatched closing parenthesis: write a permission such as documents.read")
	}
	w := last[len(last)-1]
	if w.op == paren {
		return p.errorf(w.start, "empty parentheses: write a permission in them, such as documents.read")
	}
	return p.errorf(w.start, "%s has nothing after it: write a permission there, such as documents.read", spelling[w.op])
}

// unexpected returns the error for a character that cannot be in a query.
func (p *parser) unexpected() error {
	rest := p.text[p.pos:]
	hint := "names consist of letters, digits and . _ - : * /"
	switch rest[0] {
	case '&':
		hint = "write AND"
	case '|':
		hint = "write OR"
	case ',':
		hint = "write AND or OR"
	case '!':
		hint = "there is no NOT: require what the key must have"
	case '"', '\'':
		hint = "write names without quotes"
	}
	r, size := utf8.DecodeRuneInString(rest)
	if r == utf8.RuneError && size == 1 {
		return p.errorf(p.pos, "a byte that is not UTF-8: %s", hint)
	}
	return p.errorf(p.pos, "%q is not part of a query: %s", r, hint)
}

func (p *parser) errorf(at int, format string, args ...any) error {
	return &SyntaxError{utf8.RuneCountInString(p.text[:at]) + 1, fmt.Sprintf(format, args...)}
}

// Suspicious returns why a permission with this name is probably a mistake, and what to write
// instead, as a clause that follows the name; empty if it is not.
func Suspicious(permission string) string {
	switch {
	case operatorOf(permission) != name:
		return "which no route can require, since it is an operator there: choose another name"
	case strings.Contains(permission, "*"):
		return "in which * is a plain character and matches no other permission: write each permission, or a role with them"
	}
	return ""
}

func operatorOf(word string) operator {
	switch {
	case strings.EqualFold(word, "AND"):
		return and
	case strings.EqualFold(word, "OR"):
		return or
	}
	return name
}

// notHint returns a hint for queries with NOT.
func notHint(program []step, word string) string {
	last := program[len(program)-1]
	if strings.EqualFold(word, "NOT") || last.op == name && strings.EqualFold(last.name, "NOT") {
		return "; there is no NOT: require what the key must have"
	}
	return ""
}

// quote quotes a word for an error message, shortened.
func quote(word string) string {
	if len(word) > 40 {
		word = word[:40] + "…"
	}
	return `"` + word + `"`
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("._-:*/", c) >= 0
}
