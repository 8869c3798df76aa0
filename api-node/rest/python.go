package rest

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The messages of the Block Storage API show values as Python does, and the values of its filters may be Python
// literals; clients have come to send and to match both.

// pyStr is Python's str().
func pyStr(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return pyRepr(v)
}

// pyShort is repr() of a value for a message, bounded.
func pyShort(v any) string {
	if s, ok := v.(string); ok {
		return pyRepr(clip(s))
	}
	return clip(pyRepr(v))
}

// maxRepr bounds what pyRepr writes: it is for messages.
const maxRepr = 1024

// pyRepr is Python's repr() of a JSON value.
func pyRepr(v any) string {
	var b strings.Builder
	writeRepr(&b, v)
	return b.String()
}

func writeRepr(b *strings.Builder, v any) {
	if b.Len() > maxRepr {
		return
	}
	switch v := v.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		if v {
			b.WriteString("True")
		} else {
			b.WriteString("False")
		}
	case string:
		writeReprString(b, v)
	case json.Number:
		b.WriteString(reprNumber(string(v)))
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			writeRepr(b, e)
		}
		b.WriteByte(']')
	case object:
		b.WriteByte('{')
		for i, k := range sortedKeys(v) {
			if i > 0 {
				b.WriteString(", ")
			}
			writeReprString(b, k)
			b.WriteString(": ")
			writeRepr(b, v[k])
		}
		b.WriteByte('}')
	}
}

// reprNumber shows floats as Python does: 1e18 is 1e+18.
func reprNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return s
	}
	exp := f
	if exp < 0 {
		exp = -exp
	}
	if exp != 0 && (exp >= 1e16 || exp < 1e-4) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	out := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(out, ".") {
		out += ".0"
	}
	return out
}

func writeReprString(b *strings.Builder, s string) {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b.WriteByte(quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			b.WriteString(`\x` + string(hexDigits[r>>4]) + string(hexDigits[r&0xF]))
		case r > 0x7f && !unicode.IsPrint(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte(quote)
}

// errLiteral: the text is no literal; it stands for itself.
var errLiteral = errors.New("not a literal")

// maxLiteralDepth bounds nesting.
const maxLiteralDepth = 8

// pyLiteral reads a Python literal: strings, numbers, True, False, None, lists, tuples, sets and dicts. Numbers become
// json.Number, sequences []any, dicts object with the keys as text.
func pyLiteral(s string) (any, error) {
	p := literalParser{rest: strings.TrimSpace(s)}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.rest != "" {
		return nil, errLiteral
	}
	return v, nil
}

type literalParser struct{ rest string }

func (p *literalParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *literalParser) take(prefix string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return ok
}

func (p *literalParser) value(depth int) (any, error) {
	p.space()
	if p.rest == "" || depth > maxLiteralDepth {
		return nil, errLiteral
	}
	switch c := p.rest[0]; {
	case c == '\'' || c == '"':
		return p.str(c)
	case c == 'u' && len(p.rest) > 1 && (p.rest[1] == '\'' || p.rest[1] == '"'):
		p.rest = p.rest[1:]
		return p.str(p.rest[0])
	case c == '[':
		p.rest = p.rest[1:]
		return p.sequence(depth, "]")
	case c == '(':
		p.rest = p.rest[1:]
		return p.sequence(depth, ")")
	case c == '{':
		p.rest = p.rest[1:]
		return p.dict(depth)
	case c == '-' || c == '+' || c >= '0' && c <= '9':
		return p.number()
	}
	for word, v := range map[string]any{"True": true, "False": false, "None": nil} {
		if rest, ok := strings.CutPrefix(p.rest, word); ok && (rest == "" || strings.ContainsRune(" ,]):}\t", rune(rest[0]))) {
			p.rest = rest
			return v, nil
		}
	}
	return nil, errLiteral
}

func (p *literalParser) str(quote byte) (any, error) {
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case quote:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case '\\':
			if i++; i == len(p.rest) {
				return nil, errLiteral
			}
			switch e := p.rest[i]; e {
			case '\\', '\'', '"':
				b.WriteByte(e)
			case 'n':
				b.WriteByte('\n')
			case 't':
				b.WriteByte('\t')
			default:
				return nil, errLiteral
			}
		default:
			b.WriteByte(c)
		}
	}
	return nil, errLiteral
}

func (p *literalParser) number() (any, error) {
	n := strings.IndexFunc(p.rest, func(r rune) bool {
		return (r < '0' || r > '9') && !strings.ContainsRune(".eE-+", r)
	})
	if n < 0 {
		n = len(p.rest)
	}
	text := p.rest[:n]
	whole := strings.TrimLeft(text, "+-")
	if _, err := strconv.ParseFloat(text, 64); err != nil || len(whole) > 1 && whole[0] == '0' && digits(whole) {
		return nil, errLiteral
	}
	if n < len(p.rest) {
		if r, _ := utf8.DecodeRuneInString(p.rest[n:]); !strings.ContainsRune(" ,]):}\t", r) {
			return nil, errLiteral
		}
	}
	p.rest = p.rest[n:]
	return json.Number(strings.TrimPrefix(text, "+")), nil
}

func (p *literalParser) sequence(depth int, end string) (any, error) {
	items := []any{}
	for !p.take(end) {
		if len(items) > 0 && !p.take(",") {
			return nil, errLiteral
		}
		if len(items) > 0 && p.take(end) {
			break
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		items = append(items, v)
	}
	return items, nil
}

func (p *literalParser) dict(depth int) (any, error) {
	o := object{}
	for !p.take("}") {
		if len(o) > 0 && !p.take(",") {
			return nil, errLiteral
		}
		if len(o) > 0 && p.take("}") {
			break
		}
		k, err := p.value(depth + 1)
		if err != nil || !p.take(":") {
			return nil, errLiteral
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o[pyStr(k)] = v
	}
	return o, nil
}
