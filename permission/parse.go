package permission

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A SyntaxError says what is wrong with a query, and where.
type SyntaxError struct {
	Column  int // from 1, in characters
	Message string
}

// Error returns the error as column N: message.
func (e *SyntaxError) Error() string { return fmt.Sprintf("column %d: %s", e.Column, e.Message) }

// Parse compiles a query. Its grammar, in which operators are written in either case, AND
// binds tighter than OR, and white space only parts words:
//
//	query = all { "OR" all }
//	all   = one { "AND" one }
//	one   = name | "(" query ")"
//	name  = letters, digits and . _ - : * / ("*" stands for itself alone)
//
// There is no NOT. An operator's word is never a name. Every error is a [*SyntaxError].
func Parse(text string) (*Query, error) {
	if len(text) > MaxLength {
		return nil, &SyntaxError{MaxLength + 1, fmt.Sprintf("the query is %d characters long: write at most %d, or give the key a role or a permission that stands for them", utf8.RuneCountInString(text), MaxLength)}
	}
	p := parser{text: text}
	for p.next() {
		if err := p.take(); err != nil {
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

// A parser turns infix into postfix with a stack of the operators that wait for their right
// side (Dijkstra's shunting yard), so that deep nesting costs no recursion.
type parser struct {
	text  string
	pos   int // of what comes after word
	start int // of word
	word  string
	err   error

	program []step
	terms   int
	pending []waiting
	operand bool // the last thing taken can stand left of an operator
}

type waiting struct {
	op    operator
	start int
}

// next reads the next name, operator or parenthesis into word, and reports whether there was
// one.
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
			p.err = p.strange()
			return false
		}
		p.pos++
	}
	p.word = p.text[p.start:p.pos]
	return true
}

func (p *parser) take() error {
	op := operatorOf(p.word)
	switch {
	case p.word == ")":
		return p.close()
	case p.word == "(" && p.operand:
		return p.errorf(p.start, "a parenthesis opens where an operator is expected: write AND or OR before it")
	case p.word == "(":
		p.pending = append(p.pending, waiting{paren, p.start})
	case op == name && p.operand:
		return p.errorf(p.start, "%s where an operator is expected: write AND or OR before it%s", quote(p.word), notHint(p.program, p.word))
	case op == name:
		if p.terms++; p.terms > MaxTerms {
			return p.errorf(p.start, "the query has more than %d names: give the key a role or a permission that stands for them", MaxTerms)
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

// settle writes the waiting operators that bind at least as tight as op.
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
		return p.errorf(p.start, "a parenthesis closes that was never opened: write ( before, or leave it out")
	}
	p.pending = p.pending[:len(p.pending)-1]
	return nil
}

func (p *parser) end() error {
	if len(p.program) == 0 && len(p.pending) == 0 {
		return p.errorf(0, "the query is empty: write a permission such as documents.read, or leave the field out to ask for none")
	}
	if !p.operand {
		return p.missing(len(p.text))
	}
	p.settle(or)
	if len(p.pending) > 0 {
		return p.errorf(p.pending[len(p.pending)-1].start, "a parenthesis opens that is never closed: write ) after it, or leave it out")
	}
	return nil
}

// missing tells what came before a place at which a permission should stand.
func (p *parser) missing(at int) error {
	last := p.pending
	if len(last) == 0 {
		return p.errorf(at, "a parenthesis closes that was never opened: write a permission such as documents.read")
	}
	w := last[len(last)-1]
	if w.op == paren {
		return p.errorf(w.start, "a parenthesis opens with nothing in it: write a permission there, such as documents.read")
	}
	return p.errorf(w.start, "%s has nothing after it: write a permission there, such as documents.read", spelling[w.op])
}

// strange tells what to write instead of a character that no query has.
func (p *parser) strange() error {
	rest := p.text[p.pos:]
	hint := "names are of letters, digits and . _ - : * /"
	switch rest[0] {
	case '&':
		hint = "write AND"
	case '|':
		hint = "write OR"
	case ',':
		hint = "write AND or OR"
	case '!':
		hint = "there is no NOT: ask for what the key must have"
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

// Suspicious returns why a permission with this name is likely a mistake and what to write
// instead, as the end of a sentence; empty where it is not.
func Suspicious(permission string) string {
	switch {
	case operatorOf(permission) != name:
		return "which no route can require, since it is an operator there: choose another name"
	case strings.Contains(permission, "*"):
		return "in which * is a plain character and matches no other permission: write each permission, or a role that stands for them"
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

// notHint explains the error of those who wrote NOT.
func notHint(program []step, word string) string {
	last := program[len(program)-1]
	if strings.EqualFold(word, "NOT") || last.op == name && strings.EqualFold(last.name, "NOT") {
		return "; there is no NOT: ask for what the key must have"
	}
	return ""
}

// quote shortens a word for an error.
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
